"""A folder for what a run's processes write outside the run: Ray's session, sockets, locks, files of other libraries.

It is removed when the attempt ends or, if it was killed, when the run is resumed. Its path is short, because that of a
socket may have 107 bytes only.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from reinforcepp_verl.common.run_folder import TEMPORARY_PREFIX, Attempt, RunFolder

OWNER = "attempt"
SHORT, SHARED_MEMORY = Path("/tmp"), Path("/dev/shm")
LONGEST_SOCKET = 107
SOCKET_OF_RAY = "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""In ray/_private/node.py: temporary folder, session with date and process, sockets."""
# train.log has the output of the workers.
IN_TRAIN_LOG = shutil.ignore_patterns("worker-*.out", "worker-*.err")


def create(attempt: Attempt, environment: Mapping[str, str]) -> Path:
    """Create the folder in TMPDIR, with a short link to it if that is long, and note it in the attempt's folder."""
    folder = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=environment.get("TMPDIR") or None)).resolve()
    (folder / OWNER).write_text(str(attempt.path))
    short = folder
    if len(os.fsencode(folder)) + len(SOCKET_OF_RAY) > LONGEST_SOCKET:
        short = SHORT / f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}"
        short.symlink_to(folder)
    attempt.temporary.write_text(f"{folder}\n{short}\n")
    return short


def remove(run: RunFolder, logs_of: Attempt | None = None) -> None:
    """Remove the folders of all attempts on this machine, after Ray's logs have been copied to `logs_of`."""
    for attempt in run.attempts():
        if not attempt.temporary.is_file():
            continue
        folder, short = (Path(line) for line in (*attempt.temporary.read_text().splitlines(), "", "")[:2])
        if not _is_of(attempt, folder):
            continue
        if attempt == logs_of:
            for logs in folder.glob("ray/session_2*/logs"):
                shutil.copytree(logs, attempt.ray_logs, ignore=IN_TRAIN_LOG, symlinks=True, dirs_exist_ok=True)
        for semaphore in SHARED_MEMORY.glob(f"sem.{short.name}-*"):
            semaphore.unlink()
        if short.is_symlink() and short.resolve() == folder:
            short.unlink()
        shutil.rmtree(folder)
        attempt.temporary.unlink()


def _is_of(attempt: Attempt, folder: Path) -> bool:
    """Return True for a folder that `create` made: the run may be on another machine now, or have been moved."""
    if not folder.name.startswith(TEMPORARY_PREFIX) or folder.is_symlink() or not (folder / OWNER).is_file():
        return False
    return folder.stat().st_uid == os.getuid() and (folder / OWNER).read_text() == str(attempt.path)
