"""The `create` and `resume` commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from omegaconf import DictConfig

from reinforcepp_verl.cli import hydra_app
from reinforcepp_verl.cli.train import stop_if_wrong
from reinforcepp_verl.common.terminal import LastingConsole


def create(context: typer.Context) -> None:
    """Check a configuration and make the folder of its run, without starting it; takes the same arguments as train.

    Prints the folder. `reinforcepp resume` starts the run, here or on another machine that sees the folder.

    Example:  reinforcepp create +recipe=math_rlvr/arithmetic_cpu seed=2
    """
    hydra_app.run(_create, context.args, "reinforcepp create")


def resume(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, as for train.")] = None,
) -> None:
    """Continue a run where it stopped, until it is done; start it, if it has saved nothing yet.

    Goes on from the newest whole checkpoint in the run's folder: weights, optimiser, data position, random numbers,
    running statistics, KL coefficient. A save that was cut off is ignored. The folder is all that it needs;
    metrics.jsonl holds every step once, whatever happened in between. key=value changes the configuration from here
    on, except ray_kwargs, which holds for this attempt.

    Exit codes: 0 all steps are done, 1 failed, 2 refused, 75 stopped on request after saving (a signal, or a file STOP
    in the folder), 128+n ended at once by a second signal n.

    Example:      reinforcepp resume runs/latest

    Go further:   reinforcepp resume runs/latest trainer.total_training_steps=200

    Stop one:     touch runs/latest/STOP
    """
    from reinforcepp_verl.runs import resume_run as resuming

    try:
        exit_code = resuming.resume(run, overrides or [], LastingConsole())
    except ValueError as error:
        for line in str(error).splitlines():
            typer.echo(f"error: {line}", err=True)
        sys.exit(2)
    except OSError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    sys.exit(exit_code)


def _create(config: DictConfig) -> None:
    stop_if_wrong(config, elsewhere=True)
    from reinforcepp_verl.runs import launch

    typer.echo(launch.new_run(config).path)
