"""The `create` and `resume` commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from omegaconf import DictConfig

from reinforcepp_verl.cli import hydra_app
from reinforcepp_verl.cli.train import exit_on_errors
from reinforcepp_verl.common.terminal import PipeSafeConsole, echo


def create(context: typer.Context) -> None:
    """Check a configuration and create its run folder without starting the run; takes the same arguments as train.

    Prints the folder. `reinforcepp resume` starts the run, on this or another machine that sees the folder.

    Example:  reinforcepp create +recipe=math_rlvr/arithmetic seed=2
    """
    hydra_app.run(_create, context.args, "reinforcepp create")


def resume(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, as for train.")] = None,
) -> None:
    """Resume a run and train it to the end; start it if nothing is saved yet.

    Resumes from the newest complete checkpoint in the run folder: weights, optimizer, data position, random number
    generators, running statistics, KL coefficient. An interrupted save is ignored. Only the run folder is
    needed, and metrics.jsonl has every step exactly once. key=value changes the configuration from here on; ray_kwargs
    apply to this attempt only.

    Exit codes: 0 all steps are done, 1 failed, 2 refused, 75 stopped on request after saving (a signal, or a file STOP
    in the folder), 128+n ended at once by a second signal n.

    Example:      reinforcepp resume runs/latest

    Train longer: reinforcepp resume runs/latest trainer.total_training_steps=200

    Stop a run:   touch runs/latest/STOP
    """
    from reinforcepp_verl.runs import resume_run as resuming

    try:
        exit_code = resuming.resume(run, overrides or [], PipeSafeConsole())
    except ValueError as error:
        for line in str(error).splitlines():
            echo(f"error: {line}", err=True)
        sys.exit(2)
    except OSError as error:
        echo(f"error: {error}", err=True)
        sys.exit(1)
    sys.exit(exit_code)


def _create(config: DictConfig) -> None:
    warnings = exit_on_errors(config, other_machine=True)
    from reinforcepp_verl.runs import launch

    try:
        echo(launch.new_run(config, warnings).path)
    except OSError as error:
        echo(f"error: {error}", err=True)
        sys.exit(1)
