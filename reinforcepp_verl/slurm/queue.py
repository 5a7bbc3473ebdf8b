"""The state of jobs in Slurm: squeue for pending and running ones, sacct, if available, for ended ones."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass

JOB_ID = re.compile(r"\d+(?:_\d+)?")
IDS_PER_QUERY = 1000
"""So that the argument stays far below the kernel's limit."""


@dataclass(frozen=True)
class QueuedJob:
    """One job; `time_left` and `reason` are Slurm's text, empty if there is none."""

    state: str
    time_left: str = ""
    reason: str = ""


def jobs_of_user() -> dict[str, QueuedJob]:
    """Return the user's jobs that squeue still lists, by id; a task of an array is 12_3.

    Raises:
        ValueError: squeue is not installed or does not answer
    """
    if shutil.which("squeue") is None:
        raise ValueError("squeue is not on PATH")
    lines = _lines("squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i|%T|%L|%r")
    jobs = {}
    for line in lines:
        job, state, time_left, reason = line.split("|", 3)
        jobs[job] = QueuedJob(state, time_left, "" if reason == "None" else reason)
    return jobs


def ended_jobs(jobs: Collection[str]) -> dict[str, QueuedJob]:
    """Return the state of jobs that squeue no longer lists, from the accounting; {} if there is none."""
    # An id that Slurm does not understand would fail the whole query.
    asked = [job for job in jobs if JOB_ID.fullmatch(job)]
    if shutil.which("sacct") is None:
        return {}
    found: dict[str, QueuedJob] = {}
    for start in range(0, len(asked), IDS_PER_QUERY):
        ids = ",".join(asked[start : start + IDS_PER_QUERY])
        try:
            lines = _lines("sacct", "-n", "--parsable2", "--allocations", "--format=JobID,State", f"--jobs={ids}")
        except ValueError:
            # Without accounting, as on most small clusters, sacct fails; the run folder has the outcome.
            return found
        found |= {job: QueuedJob(state) for job, _, state in (line.partition("|") for line in lines)}
    return found


def _lines(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise ValueError(f"{command[0]} failed: {' '.join(done.stderr.split())}")
    return done.stdout.splitlines()
