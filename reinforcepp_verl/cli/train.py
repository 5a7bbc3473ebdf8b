"""The `train` and `check` commands."""

from __future__ import annotations

import sys

import typer
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from reinforcepp_verl.cli import hydra_app
from reinforcepp_verl.common.terminal import LastingConsole


def train(context: typer.Context) -> None:
    """Train a model; everything after the command is Hydra's syntax.

    A recipe is an overlay of settings, chosen with +recipe=; after it come the algorithm with +method= (reinforcepp,
    reinforcepp_baseline, reinforce, reinforce_reward_to_go, raft, grpo, rloo, ppo) and the machine with +cluster=.
    Single settings are key=value.
    The configuration is checked before anything starts, and every run gets a folder of its own under runs/.

    Train:      reinforcepp train +recipe=math_rlvr/arithmetic_cpu

    Change it:  reinforcepp train +recipe=math_rlvr/arithmetic_cpu actor_rollout_ref.actor.optim.lr=1e-4

    Compare:    reinforcepp train +recipe=math_rlvr/arithmetic_cpu +method=grpo

    Seeds:      reinforcepp train --multirun +recipe=math_rlvr/arithmetic_cpu seed=1,2,3

    Hydra's flags work too: --config-name, --config-dir, --cfg job, --hydra-help.
    """
    hydra_app.run(_train, context.args, "reinforcepp train")


def check(context: typer.Context) -> None:
    """Check a configuration without starting anything; print it resolved, and the plan of one step.

    Works without a GPU and without a network, also for a machine that is not this one: the plan says how many answers,
    tokens, updates and passes a step has, and what one GPU of the named +cluster= needs.
    Exits non-zero with the key and the fix when something is wrong; takes the same arguments as train.

    Example:        reinforcepp check +recipe=math_rlvr/arithmetic_cpu trainer.n_gpus_per_node=2

    Only the plan:  reinforcepp check +recipe=math_rlvr/qwen25_7b_dapo > /dev/null
    """
    hydra_app.run(_check, context.args, "reinforcepp check")


def _train(config: DictConfig) -> None:
    stop_if_wrong(config)
    # Imported here, as `reinforcepp check` and a refused configuration need none of it.
    from reinforcepp_verl.runs import launch

    try:
        exit_code = launch.train(config, LastingConsole())
    except OSError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    if exit_code != 0:
        sys.exit(exit_code)


def _check(config: DictConfig) -> None:
    stop_if_wrong(config, elsewhere=True)
    from reinforcepp_verl.preflight import machine
    from reinforcepp_verl.sizing.show_plan import show_plan

    typer.echo(OmegaConf.to_yaml(config, resolve=True))
    show_plan(config, Console(stderr=True))
    typer.echo("# configuration is sound", err=True)
    note_missing_model(config)
    for problem in machine.accelerator(config):
        typer.echo(f"# it cannot train here: {problem}", err=True)


def note_missing_model(config: DictConfig) -> None:
    """Say that the start of the training has to download the model, if it has."""
    from reinforcepp_verl.sizing.model_size import model_folder

    if (name := config.actor_rollout_ref.model.path) and model_folder(name) is None:
        typer.echo(f"# {name} is not on this machine: the start of the training downloads it", err=True)


def stop_if_wrong(config: DictConfig, *, elsewhere: bool = False) -> None:
    from reinforcepp_verl.preflight import problems

    found = problems(config, elsewhere=elsewhere)
    for problem in found:
        typer.echo(f"error: {problem}", err=True)
    if found:
        sys.exit(2)
