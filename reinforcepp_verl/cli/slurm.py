"""The `slurm` commands: submit a run as a job, look at one's jobs, and what the job's script asks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Optional

import typer
from omegaconf import DictConfig
from rich.console import Console

from reinforcepp_verl.cli import hydra_app
from reinforcepp_verl.cli.train import note_missing_model, stop_if_wrong

slurm = typer.Typer(no_args_is_help=True, help="Train as jobs of a Slurm cluster: submit them, and see how they do.")

SWEEPS = {"--multirun", "-m"}


@slurm.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def submit(
    context: typer.Context,
    nodes: Annotated[
        Optional[int],  # noqa: UP045  (typer reads the annotation at run time)
        typer.Option("--nodes", min=1, show_default="trainer.nnodes", help="Nodes of the job."),
    ] = None,
    time: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--time", show_default="the partition's", help="Time limit, as in 1-12:00:00; see below."),
    ] = None,
    array: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--array", metavar="SEEDS", show_default=False, help="A run for each seed: 1,2,3 or 1-8%2."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print command, script and configuration; do nothing.")
    ] = False,
    test_only: Annotated[
        bool, typer.Option("--test-only", help="Have Slurm check the job and say when it would start.")
    ] = False,
) -> None:
    """Submit a training run as a job; everything that is not an option is Hydra's syntax, as for train.

    The configuration is checked here, the run's folder is made here, and the job runs recipes/slurm/train.sbatch. It
    asks for the nodes and GPUs that the configuration needs; account, partition and whatever else your cluster wants
    stand in site.env, in this folder: copy recipes/slurm/site.env.example.

    When the job's time is over the run saves, the job is requeued, and continues: --time may be shorter than the run.

    Look first:  reinforcepp slurm submit +recipe=math_rlvr/qwen25_7b_dapo_4nodes --dry-run

    Submit:      reinforcepp slurm submit +recipe=math_rlvr/qwen25_7b_dapo_4nodes --time 12:00:00

    Seeds:       reinforcepp slurm submit +recipe=math_rlvr/qwen25_05b_gsm8k --array 1,2,3
    """
    with _errors_in_one_line():
        if found := SWEEPS.intersection(context.args):
            raise ValueError(
                f"{found.pop()}: a sweep of jobs is --array 1,2,3, or hydra/launcher=submitit_slurm of train"
            )
        if array is not None and (given := [part for part in context.args if part.startswith("seed=")]):
            raise ValueError(f"{given[0]}: --array {array} sets it; leave one of them out")

    def checked(config: DictConfig) -> None:
        stop_if_wrong(config, elsewhere=True)
        note_missing_model(config)
        # Imported here, as a refused configuration needs none of it.
        from reinforcepp_verl.slurm.submit_job import Request, submit

        with _errors_in_one_line():
            submit(config, Request(nodes=nodes, time=time, array=array, dry_run=dry_run, test_only=test_only))

    hydra_app.run(checked, context.args, "reinforcepp slurm submit")


@slurm.command()
def status(
    runs_dir: Annotated[Path, typer.Argument(help="The folder of the runs.")] = Path("runs"),
) -> None:
    """List the runs that were given to Slurm: job, state, steps, reward, time left, starts, and why it waits or failed.

    Without squeue on this machine it shows what the runs' own files say.

    Example:  reinforcepp slurm status runs
    """
    from reinforcepp_verl.slurm import job_status as listing

    with _errors_in_one_line():
        listing.show(runs_dir, Console(highlight=False))


@slurm.command(hidden=True)
def facts(run: Path, nodes: int) -> None:
    """Say what each of so many nodes needs for a run: DEVICE GPUS CPUS. For recipes/slurm/train.sbatch."""
    from reinforcepp_verl.slurm import in_job

    with _errors_in_one_line():
        typer.echo(in_job.facts(run, nodes))


@slurm.command(hidden=True)
def versions() -> None:
    """Say which versions are installed on this node, in one line. For recipes/slurm/node.sh."""
    from reinforcepp_verl.slurm import in_job

    typer.echo(in_job.versions())


@slurm.command(hidden=True)
def ready(address_file: Path, nodes: int, gpus: int, deadline_s: float) -> None:
    """Wait until the nodes of a job have joined its Ray cluster. For recipes/slurm/train.sbatch."""
    from reinforcepp_verl.slurm import in_job

    try:
        typer.echo(f"Ray at {in_job.wait_for_ray(address_file, nodes, gpus, deadline_s)} is complete")
    except TimeoutError as error:
        typer.echo(f"error: after {deadline_s:g} s: {error}", err=True)
        raise typer.Exit(1) from error


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
