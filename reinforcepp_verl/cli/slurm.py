"""The `slurm` commands: submit a run as a job, list your jobs, and helpers that the job's script calls."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Optional

import typer
from omegaconf import DictConfig

from reinforcepp_verl.cli import hydra_app
from reinforcepp_verl.cli.train import exit_on_errors, note_missing_model
from reinforcepp_verl.common.terminal import SafeConsole, echo
from reinforcepp_verl.config import keys
from reinforcepp_verl.slurm.time_limit import check_time

slurm = typer.Typer(no_args_is_help=True, help="Train on a Slurm cluster: submit jobs and show their status.")

SWEEPS = {"--multirun", "-m"}


@slurm.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    options_metavar="[OPTIONS] [OVERRIDES]...",
)
def submit(
    context: typer.Context,
    nodes: Annotated[
        Optional[int],  # noqa: UP045  (typer reads the annotation at run time)
        typer.Option("--nodes", min=1, show_default=keys.NNODES, help="Nodes of the job."),
    ] = None,
    time: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--time", show_default="the partition's", help="Time limit, such as 1-12:00:00."),
    ] = None,
    array: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--array", metavar="SEEDS", show_default=False, help="One run per seed: 1,2,3 or 1-8%2."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print command, script and configuration; do nothing.")
    ] = False,
    test_only: Annotated[
        bool, typer.Option("--test-only", help="Let Slurm check the job and estimate its start time.")
    ] = False,
) -> None:
    """Submit a training run as a job; all other arguments are Hydra overrides, as for train.

    This command checks the configuration and creates the run folder; the job runs recipes/slurm/train.sbatch. It
    requests the nodes and GPUs that the configuration needs. Account, partition and other cluster-specific options are
    in site.env in the current folder: copy recipes/slurm/site.env.example.

    Before the time limit the run saves, and the job is requeued and resumes. --time may be shorter than the run.

    Dry run:     reinforcepp slurm submit +recipe=math_rlvr/qwen25_7b_dapo_4nodes --dry-run

    Submit:      reinforcepp slurm submit +recipe=math_rlvr/qwen25_7b_dapo_4nodes --time 12:00:00

    Seeds:       reinforcepp slurm submit +recipe=math_rlvr/qwen25_05b_gsm8k --array 1,2,3
    """
    with _errors_in_one_line():
        if found := SWEEPS.intersection(context.args):
            raise ValueError(
                f"{found.pop()}: not available here; use --array 1,2,3, or `train` with hydra/launcher=submitit_slurm"
            )
        if time is not None:
            check_time(time)
        if array is not None and (given := [part for part in context.args if part.startswith("seed=")]):
            raise ValueError(f"{given[0]}: --array {array} sets the seed; remove one of them")

    def checked(config: DictConfig) -> None:
        warnings = exit_on_errors(config, other_machine=True, files_may_be_missing=dry_run)
        note_missing_model(config)
        # Imported here so that a configuration is refused without waiting for it.
        from reinforcepp_verl.slurm.submit_job import Request, submit

        with _errors_in_one_line():
            submit(config, Request(nodes, time, array, dry_run, test_only), warnings)

    hydra_app.run(checked, context.args, "reinforcepp slurm submit")


@slurm.command()
def status(
    runs_dir: Annotated[Path, typer.Argument(help="Folder of the runs.")] = Path("runs"),
) -> None:
    """List the runs submitted to Slurm: job, state, steps, reward, time left, starts, and why a job waits or failed.

    Without squeue on this machine, only the information in the run folders is shown.

    Example:  reinforcepp slurm status runs
    """
    from reinforcepp_verl.slurm import job_status as listing

    with _errors_in_one_line():
        listing.show(runs_dir, SafeConsole(highlight=False))


@slurm.command(hidden=True)
def facts(run: Path, nodes: int) -> None:
    """Print what each of the nodes needs for a run: DEVICE GPUS CPUS. For recipes/slurm/train.sbatch."""
    from reinforcepp_verl.slurm import in_job

    with _errors_in_one_line():
        echo(in_job.node_resources(run, nodes))


@slurm.command(hidden=True)
def versions() -> None:
    """Print the versions installed on this node, in one line. For recipes/slurm/node.sh."""
    from reinforcepp_verl.slurm import in_job

    echo(in_job.node_versions())


@slurm.command(hidden=True)
def ready(address_file: Path, nodes: int, gpus: int, deadline_s: float) -> None:
    """Wait until the nodes of a job have joined its Ray cluster. For recipes/slurm/train.sbatch."""
    from reinforcepp_verl.slurm import in_job

    try:
        echo(f"Ray at {in_job.wait_for_ray(address_file, nodes, gpus, deadline_s)} is complete")
    except TimeoutError as error:
        echo(f"error: after {deadline_s:g} s: {error}", err=True)
        raise typer.Exit(1) from error


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as error:
        echo(f"error: {error}", err=True)
        sys.exit(2)
