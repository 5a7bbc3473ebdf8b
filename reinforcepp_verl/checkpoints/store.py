"""The folder of a run's checkpoints. Its state is always read from disk, never kept in memory.

global_step_N/              a complete checkpoint; it appears by an atomic rename
.saving/attempt_K/global_step_N/    a save in progress, or the remains of an interrupted one
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

TRACKER_FILE = "latest_checkpointed_iteration.txt"
CONFIG_FILE, STATE_FILE, METRICS_FILE = "config.yaml", "reinforcepp_state.json", "metrics.json"
"""Files of a checkpoint that are not verl's: the configuration, the state of our trainers, and the step's metrics if it
was saved before its validation."""
IS_LAST_STEP = "is_last_step"
"""Key in STATE_FILE: true if this was the last step of the configuration at that time."""
SAVING_FOLDER, DELETING_FOLDER = ".saving", ".deleting"
CHECKPOINT_NAME = re.compile(r"global_step_(\d+)")


@dataclass(frozen=True)
class SavedCheckpoint:
    """A complete checkpoint."""

    path: Path
    manifest: Manifest


def folder_name(step: int) -> str:
    """Return verl's name for the folder of a checkpoint."""
    return f"global_step_{step}"


def checkpoint_steps(root: Path) -> list[int]:
    """Return the steps of all folders named like checkpoints, complete or not, newest first."""
    if not root.is_dir():
        return []
    found = (CHECKPOINT_NAME.fullmatch(path.name) for path in root.iterdir() if path.is_dir())
    return sorted((int(name[1]) for name in found if name), reverse=True)


def newest_checkpoint(root: Path) -> tuple[SavedCheckpoint | None, list[str]]:
    """Return the newest checkpoint whose files are all unchanged, and why newer ones are ignored."""
    ignored = []
    for step in checkpoint_steps(root):
        folder = root / folder_name(step)
        try:
            saved = SavedCheckpoint(folder, manifest.read(folder))
            manifest.verify(folder, saved.manifest)
        except DamagedCheckpointError as damage:
            ignored.append(str(damage))
        else:
            return saved, ignored
    return None, ignored


def begin_save(root: Path, attempt: str) -> Path:
    """Return a folder to save into, for this attempt only: a trainer of the previous attempt may still be writing."""
    folder = root / SAVING_FOLDER / attempt
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def commit_save(staged: Path, root: Path, sealed: Manifest) -> Path:
    """Seal a save and rename it to its final name.

    An existing folder of that name is damaged, otherwise the run would have resumed from it; it is renamed and kept.
    """
    manifest.seal(staged, sealed)
    final = root / folder_name(sealed.step)
    if final.exists():
        durable.rename(final, _free_name(f"{final}.damaged"))
    durable.rename(staged, final)
    durable.write(root / TRACKER_FILE, str(sealed.step).encode())
    with contextlib.suppress(OSError):
        # Not empty while another attempt is saving.
        staged.parent.rmdir()
        (root / SAVING_FOLDER).rmdir()
    return final


def prune(root: Path, keep: int | None, newest_step: int) -> list[Path]:
    """Delete all but the `keep` newest checkpoints up to `newest_step`; return the deleted ones. None or 0 keeps all.

    `newest_step` was just committed, so it is complete. Later steps were ignored when the run started, and an unsealed
    folder may have another origin: neither is counted or deleted.
    """
    if not keep or keep < 0:
        return []
    known = (root / folder_name(step) for step in checkpoint_steps(root) if step <= newest_step)
    sealed = [folder for folder in known if _is_sealed(folder)]
    for folder in sealed[keep:]:
        _delete(folder)
    return sealed[keep:]


def clear_leftovers(root: Path) -> None:
    """Delete the remains of interrupted saves and deletions; called at the start and the end of an attempt."""
    for name in (SAVING_FOLDER, DELETING_FOLDER):
        # Errors are ignored: a worker on another node may still be writing, and a network file system keeps open files.
        # The next call deletes the rest.
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
    """Rename the folder before deleting it, so that a kill never leaves a half-deleted checkpoint under its name."""
    trash = folder.parent / DELETING_FOLDER
    trash.mkdir(exist_ok=True)
    durable.rename(folder, _free_name(str(trash / folder.name)))
    shutil.rmtree(trash, ignore_errors=True)
