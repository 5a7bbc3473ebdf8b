"""One row for every run submitted to Slurm: the state of its job, and the steps recorded in its folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from reinforcepp_verl.common.json_text import read_object
from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.common.wording import first_line
from reinforcepp_verl.config import config_file, keys
from reinforcepp_verl.report.run_records import last_record
from reinforcepp_verl.slurm import queue
from reinforcepp_verl.slurm.queue import QueuedJob
from reinforcepp_verl.slurm.submit_job import JOB_ID

HEADINGS = ("run", "job", "state", "step", "reward", "time left", "starts", "reason")
REWARD = "critic/score/mean"
UNKNOWN = "-"


@dataclass(frozen=True)
class Row:
    """The cells of the table."""

    run: str
    job: str
    state: str
    step: str
    reward: str
    time_left: str
    starts: str
    reason: str


def rows(runs_dir: Path, jobs: dict[str, QueuedJob]) -> list[Row]:
    """Return a row for each run under `runs_dir` that has a job, oldest first."""
    return [_row(RunFolder(path), jobs) for path in _runs(runs_dir)]


def show(runs_dir: Path, console: Console) -> None:
    """Print the table; without squeue, only the information in the run folders.

    Raises:
        ValueError: the folder does not exist, or has no run with a job
    """
    paths = _runs(runs_dir)
    if not paths:
        raise ValueError(f"{runs_dir}: no run in it was submitted to Slurm; give the folder of runs (runs_dir)")
    try:
        jobs = queue.jobs_of_user()
        ids = {_job(path) for path in paths}
        jobs |= queue.ended_jobs(sorted(ids - jobs.keys()))
    except ValueError as error:
        console.print(f"{error}: the states are from the run folders", style="yellow", soft_wrap=True)
        jobs = {}
    table = Table(box=None, pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold")
    for row in rows(runs_dir, jobs):
        table.add_row(*(cell.replace("[", r"\[") for cell in vars(row).values()))
    console.print(table)


def _runs(runs_dir: Path) -> list[Path]:
    if not runs_dir.is_dir():
        raise ValueError(f"{runs_dir}: no such folder; give the folder of runs (runs_dir)")
    return sorted(found.parent for found in runs_dir.glob(f"*/{JOB_ID.parent}") if not found.parent.is_symlink())


def _job(run: Path) -> str:
    """Return the id, "-" if its file is empty or holds something else."""
    try:
        text = (run / JOB_ID).read_bytes().decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return UNKNOWN
    return text if queue.JOB_ID.fullmatch(text) else UNKNOWN


def _row(run: RunFolder, jobs: dict[str, QueuedJob]) -> Row:
    """Return what is known of a run: a damaged file costs it a cell, and is named where the reason is."""
    job = _job(run.path)
    damaged = [f"{run.path / JOB_ID}: not a job id"] if job == UNKNOWN else []

    def read(function: Callable[[RunFolder], Any], missing: Any) -> Any:
        try:
            return function(run)
        except (ValueError, OSError) as error:
            damaged.append(first_line(error))
            return missing

    summary = read(_summary, {})
    status = str(summary.get("status") or UNKNOWN)
    queued = jobs.get(job, QueuedJob(status))
    last = read(lambda run: last_record(run, REWARD), None) or {}
    starts = read(lambda run: len(list((run.path / "slurm").glob("attempt_*"))), UNKNOWN)
    error = str(summary.get("error") or "").partition("\n")[0]
    return Row(
        run=run.path.name,
        job=job,
        state=queued.state,
        step=f"{summary.get('steps', last.get('step', UNKNOWN))}/{read(_total_steps, None) or UNKNOWN}",
        reward=_number(last.get(REWARD)),
        time_left=queued.time_left or UNKNOWN,
        starts=str(starts),
        reason="; ".join(filter(None, [error or queued.reason, *damaged])) or status,
    )


def _summary(run: RunFolder) -> dict[str, Any]:
    return read_object(run.summary)


def _total_steps(run: RunFolder) -> Any:
    return config_file.first_value(run.configs(), keys.TOTAL_TRAINING_STEPS)


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else UNKNOWN
