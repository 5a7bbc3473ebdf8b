"""The checkpoint that a run starts from: it must be complete and compatible with the configuration."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from reinforcepp_verl.checkpoints import compatibility, manifest
from reinforcepp_verl.checkpoints.manifest import DamagedCheckpointError
from reinforcepp_verl.checkpoints.store import SavedCheckpoint
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import value


def check(config: DictConfig) -> list[str]:
    """Check trainer.resume_from_path; checkpoints of other programs have no manifest, so only the name is checked."""
    if value(config, keys.RESUME_MODE) != "resume_path":
        return []
    given = value(config, keys.RESUME_FROM_PATH)
    if not given or not (folder := Path(given)).is_dir() or not folder.name.startswith("global_step_"):
        return [f"{keys.RESUME_FROM_PATH} is {given!r}: set it to a folder RUN/checkpoints/global_step_N"]
    if value(config, keys.VAL_ONLY) or not (folder / manifest.COMPLETE).is_file():
        return []
    try:
        saved = SavedCheckpoint(folder, manifest.read(folder))
        manifest.verify(folder, saved.manifest)
    except DamagedCheckpointError as damage:
        return [f"{keys.RESUME_FROM_PATH}: {damage}; choose another checkpoint"]
    return compatibility.incompatibilities(saved, config)
