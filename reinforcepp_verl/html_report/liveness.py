"""Whether a run goes on: summary.json of a run that was killed still says `running`."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path

from reinforcepp_verl.common.run_folder import RunFolder

SIGN_OF_LIFE_S = 900
"""A run on another machine, whose lock cannot be seen, counts as ended if its files have not changed for so long."""


def is_going_on(run: RunFolder, status: object) -> bool:
    """Return True for a run that is training or waits for its start."""
    if status == "running":
        return _is_locked(run.lock) or time.time() - _last_change(run) < SIGN_OF_LIFE_S
    return status == "created"


def _is_locked(lock: Path) -> bool:
    if not lock.is_file():
        return False
    with lock.open("rb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _last_change(run: RunFolder) -> float:
    files = (run.summary, run.metrics, run.log)
    return max((file.stat().st_mtime for file in files if file.is_file()), default=0.0)
