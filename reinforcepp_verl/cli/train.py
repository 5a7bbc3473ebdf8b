"""The `train` and `check` commands."""

from __future__ import annotations

import sys

import typer
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from reinforcepp_verl.algorithm.registry import ESTIMATORS
from reinforcepp_verl.cli import hydra_app
from reinforcepp_verl.common.terminal import PipeSafeConsole
from reinforcepp_verl.config import keys, search_path


def method_names() -> list[str]:
    """List what can be written after `+method=`: the registered estimators in their order, then verl's."""
    names = sorted(path.stem for path in (search_path.config_dir() / "method").glob("*.yaml"))
    return [*(name for name in ESTIMATORS if name in names), *(name for name in names if name not in ESTIMATORS)]


TRAIN_HELP = f"""Train a model; the arguments are Hydra overrides.

+recipe= selects a recipe, a set of overrides; after it, +method= selects the algorithm ({", ".join(method_names())}).
cluster= selects the machine; without it, this one is used: its GPUs, or the CPU. key=value changes a single setting.
The configuration is checked before anything starts, and every run gets its own folder under runs/.

Train:      reinforcepp train +recipe=math_rlvr/arithmetic

Change it:  reinforcepp train +recipe=math_rlvr/arithmetic {keys.ACTOR_OPTIM}.lr=1e-4

Compare:    reinforcepp train +recipe=math_rlvr/arithmetic +method=grpo

Seeds:      reinforcepp train --multirun +recipe=math_rlvr/arithmetic seed=1,2,3

Hydra's flags work too: --config-name, --config-dir, --cfg job, --hydra-help.
"""


def train(context: typer.Context) -> None:
    """Train a model, after the checks; its help is TRAIN_HELP."""
    hydra_app.run(_train, context.args, "reinforcepp train", starts_here=True)


def check(context: typer.Context) -> None:
    """Check a configuration without starting anything; print the resolved configuration and the plan of one step.

    Works without a GPU or network, also for another machine. The plan shows the answers, tokens, updates and passes per
    step, and the memory per GPU. Without cluster= it plans for the machine that the recipe is meant for.
    If something is wrong, prints the key and the fix, and exits with a nonzero code. Takes the same arguments as train.

    Example:        reinforcepp check +recipe=math_rlvr/arithmetic trainer.n_gpus_per_node=2

    Only the plan:  reinforcepp check +recipe=math_rlvr/qwen25_7b_dapo > /dev/null
    """
    hydra_app.run(_check, context.args, "reinforcepp check")


def _train(config: DictConfig) -> None:
    exit_on_problems(config)
    # Imported here to keep `reinforcepp check` and a refused configuration fast.
    from reinforcepp_verl.runs import launch

    try:
        exit_code = launch.train(config, PipeSafeConsole())
    except OSError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    if exit_code != 0:
        sys.exit(exit_code)


def _check(config: DictConfig) -> None:
    exit_on_problems(config, elsewhere=True)
    from reinforcepp_verl.preflight import machine
    from reinforcepp_verl.sizing.show_plan import show_plan

    typer.echo(OmegaConf.to_yaml(config, resolve=True))
    show_plan(config, Console(stderr=True))
    typer.echo("# configuration is valid", err=True)
    note_missing_model(config)
    for problem in machine.accelerator(config):
        typer.echo(f"# cannot train on this machine: {problem}", err=True)


def note_missing_model(config: DictConfig) -> None:
    """Report a model that the start of training has to download."""
    from reinforcepp_verl.sizing.model_size import model_folder

    if (name := config.actor_rollout_ref.model.path) and model_folder(name) is None:
        typer.echo(f"# {name} is not on this machine: it is downloaded when training starts", err=True)


def exit_on_problems(config: DictConfig, *, elsewhere: bool = False) -> None:
    from reinforcepp_verl.preflight import problems

    found = problems(config, elsewhere=elsewhere)
    for problem in found:
        typer.echo(f"error: {problem}", err=True)
    if found:
        sys.exit(2)
