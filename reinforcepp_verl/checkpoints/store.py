"""The folder of a run's checkpoints. What is in it is found by looking at the disk, never remembered.

global_step_N/              a whole checkpoint; it appears by one rename
.saving/attempt_K/global_step_N/    a save under way, or what a kill left of one
latest_checkpointed_iteration.txt   the newest step, for verl's own `resume_mode=auto` and tools
"""

from __future__ import annotations

import contextlib
import itertools
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from reinforcepp_verl.checkpoints import manifest
from reinforcepp_verl.checkpoints.manifest import DamagedCheckpointError, Manifest
from reinforcepp_verl.common import durable

TRACKER = "latest_checkpointed_iteration.txt"
CONFIG, STATE, METRICS = "config.yaml", "reinforcepp_state.json", "metrics.json"
"""In a checkpoint, beside verl's files: the configuration, what our trainers remember, a step's metrics if it was saved
before its validation."""
IS_LAST = "is_last_step"
"""In STATE: true after the last step of what was then configured."""
SAVING, DELETING = ".saving", ".deleting"
NAME = re.compile(r"global_step_(\d+)")


@dataclass(frozen=True)
class Saved:
    """A whole checkpoint."""

    path: Path
    manifest: Manifest


def folder_name(step: int) -> str:
    """Return verl's name of the folder of one checkpoint."""
    return f"global_step_{step}"


def steps(root: Path) -> list[int]:
    """Return the steps of the folders named like checkpoints, whole or not, newest first."""
    if not root.is_dir():
        return []
    found = (NAME.fullmatch(path.name) for path in root.iterdir() if path.is_dir())
    return sorted((int(name[1]) for name in found if name), reverse=True)


def newest(root: Path) -> tuple[Saved | None, list[str]]:
    """Return the newest checkpoint whose files are all as they were written, and why newer ones are not taken."""
    ignored = []
    for step in steps(root):
        folder = root / folder_name(step)
        try:
            saved = Saved(folder, manifest.read(folder))
            manifest.verify(folder, saved.manifest)
        except DamagedCheckpointError as damage:
            ignored.append(str(damage))
        else:
            return saved, ignored
    return None, ignored


def begin(root: Path, attempt: str) -> Path:
    """Return a folder to save into, of this attempt only: a trainer that outlived the one before may still write."""
    folder = root / SAVING / attempt
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def commit(staged: Path, root: Path, sealed: Manifest) -> Path:
    """Seal a save and give it its name.

    A folder that has this name already is damaged, or the run would have gone on from it; it is kept under another one.
    """
    manifest.seal(staged, sealed)
    final = root / folder_name(sealed.step)
    if final.exists():
        durable.rename(final, _free_name(f"{final}.damaged"))
    durable.rename(staged, final)
    durable.write(root / TRACKER, str(sealed.step).encode())
    with contextlib.suppress(OSError):
        # Not empty where another attempt saves.
        staged.parent.rmdir()
        (root / SAVING).rmdir()
    return final


def prune(root: Path, keep: int | None, newest_step: int) -> list[Path]:
    """Delete all but the `keep` newest checkpoints up to `newest_step` and return what is gone; None or 0 keeps all.

    `newest_step` was just committed, so that it is whole. What lies behind it was ignored when the run started, and a
    folder that is not sealed may be somebody else's: neither is counted or touched.
    """
    if not keep or keep < 0:
        return []
    known = (root / folder_name(step) for step in steps(root) if step <= newest_step)
    sealed = [folder for folder in known if _is_sealed(folder)]
    for folder in sealed[keep:]:
        _delete(folder)
    return sealed[keep:]


def clear_leftovers(root: Path) -> None:
    """Delete what is left of a save or a deletion that was cut off; for the start and the end of an attempt."""
    for name in (SAVING, DELETING):
        # A worker on another node may still write into it, and a network file system keeps a file that somebody has
        # open; the next call takes it.
        shutil.rmtree(root / name, ignore_errors=True)


def _free_name(stem: str) -> Path:
    names = (Path(stem if number == 1 else f"{stem}_{number}") for number in itertools.count(1))
    return next(name for name in names if not name.exists())


def _is_sealed(folder: Path) -> bool:
    try:
        manifest.read(folder)
    except DamagedCheckpointError:
        return False
    return True


def _delete(folder: Path) -> None:
    """Take the name away first, so that a kill leaves no half-deleted checkpoint under it."""
    trash = folder.parent / DELETING
    trash.mkdir(exist_ok=True)
    durable.rename(folder, _free_name(str(trash / folder.name)))
    shutil.rmtree(trash, ignore_errors=True)
