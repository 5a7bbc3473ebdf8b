"""The `train` and `check` commands."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from omegaconf import DictConfig, OmegaConf

from reinforcepp_verl.algorithm.registry import ESTIMATORS
from reinforcepp_verl.cli import hydra_app
from reinforcepp_verl.common.terminal import PipeSafeConsole, SafeConsole, echo
from reinforcepp_verl.config import keys, search_path


def method_names() -> list[str]:
    """List the valid names after `+method=`: the registered estimators in order, then verl's."""
    names = sorted(path.stem for path in (search_path.config_dir() / "method").glob("*.yaml"))
    return [*(name for name in ESTIMATORS if name in names), *(name for name in names if name not in ESTIMATORS)]


TRAIN_HELP = f"""Train a model; the arguments are Hydra overrides.

+recipe= selects a recipe, a set of overrides; after it, +method= selects the algorithm ({", ".join(method_names())}).
cluster= selects the machine; without it, this one is used: its GPUs, or the CPU. key=value changes a single setting.
The configuration is checked before anything starts, and every run gets its own folder under runs/.

Train:      reinforcepp train +recipe=math_rlvr/arithmetic

Change it:  reinforcepp train +recipe=math_rlvr/arithmetic {keys.ACTOR_LR}=1e-4

Compare:    reinforcepp train +recipe=math_rlvr/arithmetic +method=grpo

Seeds:      reinforcepp train --multirun +recipe=math_rlvr/arithmetic seed=1,2,3

Hydra's flags work too: --config-name, --config-dir, --cfg job, --hydra-help.
"""

if TYPE_CHECKING:
    from reinforcepp_verl.preflight.findings import PreflightWarning


def train(context: typer.Context) -> None:
    """Train a model, after the checks; its help is TRAIN_HELP."""
    hydra_app.run(_train, context.args, "reinforcepp train", starts_here=True)


def check(
    context: typer.Context,
    as_yaml: Annotated[
        bool, typer.Option("--yaml", help="Print the resolved configuration instead of the plan.")
    ] = False,
) -> None:
    """Check a configuration without starting anything; print the plan of one step.

    Works without a GPU or network, also for another machine. The plan shows the answers, tokens, updates and passes per
    step, and the memory per GPU. Without cluster= it plans for the machine that the recipe is meant for.
    Errors are printed with the key and the fix, and the exit code is 2. Warnings do not stop a run; missing data is
    only a warning here. Takes the same arguments as train.

    Plan:           reinforcepp check +recipe=math_rlvr/qwen25_7b_dapo

    Other machine:  reinforcepp check +recipe=math_rlvr/qwen25_7b_dapo cluster=h100x8_4nodes

    Configuration:  reinforcepp check +recipe=math_rlvr/qwen25_7b_dapo --yaml
    """
    hydra_app.run(functools.partial(_check, as_yaml=as_yaml), context.args, "reinforcepp check")


def _train(config: DictConfig) -> None:
    warnings = exit_on_errors(config)
    # Imported here to keep `reinforcepp check` and a refused configuration fast.
    from reinforcepp_verl.runs import launch

    try:
        exit_code = launch.train(config, PipeSafeConsole(), warnings)
    except OSError as error:
        echo(f"error: {error}", err=True)
        sys.exit(1)
    if exit_code != 0:
        sys.exit(exit_code)


def _check(config: DictConfig, *, as_yaml: bool) -> None:
    warnings = exit_on_errors(config, other_machine=True, files_may_be_missing=True)
    from reinforcepp_verl.sizing.show_plan import show_plan

    if as_yaml:
        echo(OmegaConf.to_yaml(config, resolve=True), nl=False)
    else:
        show_plan(config, SafeConsole())
    note_missing_model(config)
    count = f", with {len(warnings)} warning{'s' * (len(warnings) > 1)}" if warnings else ""
    echo(f"configuration is valid{count}", err=True)


def note_missing_model(config: DictConfig) -> None:
    """Report a model that the start of training has to download."""
    from reinforcepp_verl.preflight.model_files import is_downloaded_at_start

    if is_downloaded_at_start(name := config.actor_rollout_ref.model.path):
        echo(f"{name} is not on this machine: it is downloaded when training starts", err=True)


def exit_on_errors(
    config: DictConfig, *, other_machine: bool = False, files_may_be_missing: bool = False
) -> list[PreflightWarning]:
    """Check a configuration, see `preflight.examine`; show the warnings and return them."""
    from reinforcepp_verl.preflight import examine
    from reinforcepp_verl.preflight.findings import show_warnings

    found = examine(config, other_machine=other_machine, files_may_be_missing=files_may_be_missing)
    for error in found.errors:
        echo(f"error: {error}", err=True)
    if found.errors:
        sys.exit(2)
    show_warnings(found.warnings)
    return found.warnings
