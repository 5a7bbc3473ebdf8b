"""What Slurm says of jobs: squeue for those that wait or run, sacct, where there is one, for those that ended."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class QueuedJob:
    """One job; `time_left` and `reason` are Slurm's words, empty where it has none."""

    state: str
    time_left: str = ""
    reason: str = ""


def jobs_of_user() -> dict[str, QueuedJob]:
    """Return the user's jobs that Slurm still knows, by id; a task of an array is 12_3.

    Raises:
        ValueError: squeue is not installed or does not answer
    """
    if shutil.which("squeue") is None:
        raise ValueError("squeue is not on PATH here")
    lines = _lines("squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i|%T|%L|%r")
    jobs = {}
    for line in lines:
        job, state, time_left, reason = line.split("|", 3)
        jobs[job] = QueuedJob(state, time_left, "" if reason == "None" else reason)
    return jobs


def ended_jobs(jobs: Collection[str]) -> dict[str, QueuedJob]:
    """Return what the accounting says of jobs that squeue has forgotten; {} where no accounting is kept."""
    if not jobs or shutil.which("sacct") is None:
        return {}
    try:
        lines = _lines(
            "sacct", "-n", "--parsable2", "--allocations", "--format=JobID,State", f"--jobs={','.join(jobs)}"
        )
    except ValueError:
        # Most small clusters keep none, and sacct then fails; the run's own files say how it ended.
        return {}
    return {job: QueuedJob(state) for job, _, state in (line.partition("|") for line in lines)}


def _lines(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise ValueError(f"{command[0]} failed: {' '.join(done.stderr.split())}")
    return done.stdout.splitlines()
