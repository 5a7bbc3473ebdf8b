"""A folder for what a run's processes write outside the run: Ray's session, sockets, locks, files of other libraries.

It is removed when the attempt ends or, if it was killed, when the run is resumed. Its path is short, because that of a
socket may have 107 bytes only.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from reinforcepp_verl.common.run_folder import TEMPORARY_PREFIX, Attempt, RunFolder
from reinforcepp_verl.common.wording import first_line

ID_FILE = "reinforcepp_attempt"
SHORT, SHARED_MEMORY = Path("/tmp"), Path("/dev/shm")
LONGEST_SOCKET = 107
SOCKET_OF_RAY = "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""In ray/_private/node.py: temporary folder, session with date and process, sockets."""
# Ray does not quote the path of a program in it.
SAFE = re.compile(r"[\w./-]+")
# train.log has the output of the workers.
IN_TRAIN_LOG = shutil.ignore_patterns("worker-*.out", "worker-*.err")


def create(attempt: Attempt, environment: Mapping[str, str]) -> Path:
    """Create the folder in RAY_TMPDIR, TMPDIR or /tmp and return it, or a link if its path is too long for sockets.

    Raises:
        OSError: none of them can be written
    """
    asked = [environment[name] for name in ("RAY_TMPDIR", "TMPDIR") if environment.get(name)]
    usable = [name for name in asked if os.access(name, os.W_OK | os.X_OK)]
    folder = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=usable[0] if usable else SHORT)).resolve()
    short = folder
    if len(os.fsencode(folder)) + len(SOCKET_OF_RAY) > LONGEST_SOCKET or not SAFE.fullmatch(str(folder)):
        short = SHORT / f"{TEMPORARY_PREFIX}{secrets.token_hex(4)}"
    identity = secrets.token_hex(16)
    (folder / ID_FILE).write_text(identity)
    attempt.temporary.write_text(f"{folder}\n{short}\n{identity}\n")
    if short != folder:
        short.symlink_to(folder)
    return short


def remove(run: RunFolder, logs_of: Attempt | None = None) -> list[str]:
    """Remove the folders of all attempts on this machine, after Ray's logs have been copied to `logs_of`.

    Returns what could not be removed or copied: that changes nothing about the run.
    """
    problems: list[str] = []
    for attempt in run.attempts():
        if not attempt.temporary.is_file():
            continue
        folder, short, identity = (*attempt.temporary.read_text(errors="replace").splitlines(), "", "", "")[:3]
        if not _is_of(Path(folder), identity):
            continue
        try:
            if attempt == logs_of:
                _copy_logs(Path(folder), attempt.ray_logs)
        except OSError as error:
            problems.append(f"{attempt.ray_logs}: {first_line(error)}")
        try:
            _remove(Path(folder), Path(short))
            attempt.temporary.unlink()
        except OSError as error:
            problems.append(f"{folder}: not removed ({first_line(error)})")
    return problems


def _is_of(folder: Path, identity: str) -> bool:
    """Return True for a folder that `create` made; the run may be on another machine now."""
    if not folder.name.startswith(TEMPORARY_PREFIX) or folder.is_symlink() or not (folder / ID_FILE).is_file():
        return False
    return folder.stat().st_uid == os.getuid() and (folder / ID_FILE).read_text() == identity != ""


def _copy_logs(folder: Path, target: Path) -> None:
    for logs in folder.glob("ray/session_2*/logs"):
        shutil.copytree(logs, target, ignore=IN_TRAIN_LOG, symlinks=True, dirs_exist_ok=True)


def _remove(folder: Path, short: Path) -> None:
    # Named after it by verl_patches: semaphores, and the buffers of weight transfers.
    for name in (f"sem.{short.name}-*", f"{short.name}-*"):
        for left in SHARED_MEMORY.glob(name):
            # Python's resource tracker may remove it first.
            with suppress(FileNotFoundError):
                if left.stat().st_uid == os.getuid():
                    left.unlink()
    if short.is_symlink() and short.resolve() == folder:
        short.unlink()
    shutil.rmtree(folder)
