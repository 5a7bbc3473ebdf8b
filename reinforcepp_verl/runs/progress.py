"""How far a run has come, from its summary.json or, if that is lost, from its records; and what it must have saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.config import config_file, keys
from reinforcepp_verl.config.reading import is_count
from reinforcepp_verl.report.run_records import recorded
from reinforcepp_verl.runs.run_summary import read_summary

FINISHED, STOPPED = "finished", "stopped"


@dataclass(frozen=True)
class Progress:
    """The number of steps done, and the status that summary.json has or, of a lost one, `finished` or ""."""

    status: str
    steps: int
    lost_summary: Path | None = None


def progress(run: RunFolder, wanted: int | None) -> Progress:
    """Return how far a run of `wanted` steps has come."""
    summary = read_summary(run.summary)
    status, steps = summary.get("status"), summary.get("steps")
    if isinstance(status, str) and isinstance(steps, int):
        return Progress(status, steps)
    steps = max(recorded(run), default=0)
    return Progress(FINISHED if wanted is not None and steps >= wanted else "", steps, run.summary)


def missing_checkpoints(run: RunFolder, done: Progress, origin: int) -> str | None:
    """Return what to do about the checkpoints that a run without any must have had; None if it need not have had one.

    `origin` is the step that it started from.
    """
    stopped = done.status == STOPPED and done.steps > origin
    if not (stopped or _has_saved(run, done, origin) or _has_resumed(run)):
        return None
    return (
        f"{run.checkpoints} has no checkpoint, although the run saved some in its {done.steps} steps: is the disk "
        "mounted? Restore the folder, or train a new run"
    )


def _has_saved(run: RunFolder, done: Progress, origin: int) -> bool:
    try:
        every = config_file.first_value([*run.configs()[1:], run.config], keys.SAVE_FREQ)
    except ValueError:
        return False
    if not is_count(every):
        return False
    # The folder exists once a save begins; the save ends before the next step does.
    steps = done.steps - 1 if run.checkpoints.is_dir() else done.steps
    return steps >= (origin // every + 1) * every


def _has_resumed(run: RunFolder) -> bool:
    """Return True if an attempt started from a checkpoint of the run itself."""
    for config in run.configs()[1:]:
        try:
            start = config_file.value(config, keys.RESUME_FROM_PATH) if config.is_file() else None
        except ValueError:
            continue
        if start is not None and Path(str(start)).parent == run.checkpoints:
            return True
    return False
