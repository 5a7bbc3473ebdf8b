"""One row for every run submitted to Slurm: the state of its job, and the steps recorded in its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.config import keys
from reinforcepp_verl.report.history import load_history
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
    return sorted(file.parents[1] for file in runs_dir.glob(f"*/{JOB_ID}") if not file.parents[1].is_symlink())


def _job(run: Path) -> str:
    return (run / JOB_ID).read_text().strip()


def _row(run: RunFolder, jobs: dict[str, QueuedJob]) -> Row:
    job = _job(run.path)
    summary: dict[str, Any] = json.loads(run.summary.read_bytes())
    total = OmegaConf.select(OmegaConf.load(run.config), keys.TOTAL_TRAINING_STEPS)
    queued = jobs.get(job, QueuedJob(summary["status"]))
    error = (summary.get("error") or "").partition("\n")[0]
    return Row(
        run=run.path.name,
        job=job,
        state=queued.state,
        step=f"{summary['steps']}/{total or UNKNOWN}",
        reward=_reward(run),
        time_left=queued.time_left or UNKNOWN,
        starts=str(len(list((run.path / "slurm").glob("attempt_*")))),
        reason=error or queued.reason or summary["status"],
    )


def _reward(run: RunFolder) -> str:
    if not run.metrics.is_file():
        return UNKNOWN
    series = load_history(run.path).series
    return f"{series[REWARD][1][-1]:.3f}" if REWARD in series else UNKNOWN
