"""Finds the file of generations for a source: a JSONL file, a folder of verl's dumps, or a run."""

from __future__ import annotations

from pathlib import Path

from reinforcepp_verl.checkpoints.fsdp_checkpoint import refuse_part
from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.config import config_file, keys

FIX = f"train with {keys.TEST_FREQ}=N or {keys.VAL_BEFORE_TRAIN}=true, which validate, or give a checkpoint of it"


def locate(source: Path, step: int | None = None) -> Path:
    """Return the JSONL file of `source`; in a folder of dumps that of `step`, by default the newest.

    Raises:
        ValueError: there is none; the message says how to create one
    """
    if source.is_file():
        if step is not None:
            raise ValueError(f"{source}: --step chooses from a folder of dumps, and this is a file")
        return source
    if not source.is_dir():
        raise ValueError(f"{source}: no such file or folder; give a JSONL file, a folder of such files or a run")
    run = RunFolder(source.resolve())
    if run.config.is_file() or run.attempts() or _dumps(run.validation):
        return _choose(_dumps_of_run(source, run), step)
    if _dumps(source):
        return _choose(source, step)
    refuse_part(source)
    raise ValueError(f"{source}: no STEP.jsonl in it (verl's name for its dumps); give the file itself, or a run")


def _dumps(folder: Path) -> dict[int, Path]:
    return {int(path.stem): path for path in folder.glob("*.jsonl") if path.stem.isdecimal() and path.is_file()}


def _choose(folder: Path, step: int | None) -> Path:
    dumps = _dumps(folder)
    if step is not None and step not in dumps:
        raise ValueError(f"{folder}: no dump of step {step}; available are {', '.join(map(str, sorted(dumps)))}")
    return dumps[max(dumps) if step is None else step]


def _dumps_of_run(source: Path, run: RunFolder) -> Path:
    """Return the folder of a run's dumps; for verl a relative one is relative to where training was started."""
    if _dumps(run.validation):
        return run.validation
    given = config_file.first_value(run.configs(), keys.VALIDATION_DATA_DIR)
    # An attempt has the run's own folder there, unless another one was given.
    if given is None or Path(str(given)).parts[-2:] == run.validation.parts[-2:]:
        raise ValueError(f"{source}: the run has no generations; {FIX}")
    folders = (Path(str(given)).expanduser(), run.path.parent.parent / str(given))
    if found := next(filter(_dumps, folders), None):
        return found
    raise ValueError(
        f"{source}: {keys.VALIDATION_DATA_DIR} is {given}, where no STEP.jsonl lies; give the folder it is in now"
    )
