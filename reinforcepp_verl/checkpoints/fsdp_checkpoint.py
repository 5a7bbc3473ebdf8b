"""A checkpoint of verl's FSDP backend: finds it and checks that it is complete."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

from reinforcepp_verl.checkpoints import manifest, store
from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.config import keys

FSDP_CONFIG_FILE = "fsdp_config.json"
NOT_A_CHECKPOINT = (store.TRACKER_FILE, FSDP_CONFIG_FILE)
"""Files that verl writes to the folder of all checkpoints and to the model folder of one checkpoint."""
MODEL_FILE = re.compile(r"actor/(?!optim_|extra_state_)")
MEGATRON_FOLDERS = ("model", "dist_ckpt")
MERGE_MEGATRON = "python -m verl.model_merger merge --backend megatron --local_dir {actor} --target_dir DIR"


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint, RUN/checkpoints/global_step_N; `world_size` is the number of its shards."""

    path: Path
    step: int
    world_size: int

    @property
    def actor(self) -> Path:
        """The folder of the policy."""
        return self.path / "actor"

    @property
    def model_config(self) -> Path:
        """The model's configuration and tokenizer, without weights."""
        return self.actor / "huggingface"

    @property
    def shards(self) -> list[Path]:
        """The weight files, by rank."""
        return [self.actor / f"model_world_size_{self.world_size}_rank_{rank}.pt" for rank in range(self.world_size)]

    @property
    def lora(self) -> Path:
        """Rank and alpha of the adapter; the file exists only with LoRA."""
        return self.actor / "lora_train_meta.json"

    @property
    def run(self) -> RunFolder:
        """The run that saved it."""
        return RunFolder(self.path.parents[1])


def is_checkpoint(folder: Path) -> bool:
    """Return True if the name of a folder is that of a checkpoint, complete or not."""
    return folder.is_dir() and store.CHECKPOINT_NAME.fullmatch(folder.resolve().name) is not None


def refuse_part(folder: Path) -> None:
    """Raise ValueError if `folder` holds all checkpoints, or is inside a checkpoint."""
    if any((folder / name).exists() for name in NOT_A_CHECKPOINT):
        raise ValueError(
            f"{folder}: part of a checkpoint, or several checkpoints; give one, RUN/checkpoints/global_step_N"
        )


def find_checkpoint(source: Path) -> Checkpoint:
    """Return the checkpoint `source`, or the newest one of the run `source`.

    The model files are compared with the manifest. Only an explicitly named checkpoint may lack a manifest, because it
    may come from another trainer.

    Raises:
        ValueError: there is none, it is incomplete, or its backend is not FSDP
    """
    if not source.is_dir():
        raise ValueError(f"{source}: no such folder; give a run or RUN/checkpoints/global_step_N")
    folder = source.resolve()
    if is_checkpoint(folder):
        named = folder
    else:
        refuse_part(source)
        named = _newest(source, RunFolder(folder))
    if named != folder or (folder / manifest.COMPLETE).exists():
        _verify_model(named)
    return _read(named)


def _newest(source: Path, run: RunFolder) -> Path:
    steps = store.checkpoint_steps(run.checkpoints)
    if not steps:
        raise ValueError(f"{source}: no complete checkpoint in it; train with {keys.SAVE_FREQ}=N or give another run")
    return run.checkpoints / store.folder_name(steps[0])


def _verify_model(folder: Path) -> None:
    """Verify the weights and their configuration, but not the optimizer state, which is larger and not needed."""
    try:
        written = manifest.read(folder)
        files = {name: entry for name, entry in written.files.items() if MODEL_FILE.match(name)}
        manifest.verify(folder, replace(written, files=files))
    except manifest.DamagedCheckpointError as damage:
        raise ValueError(f"{damage}; choose another checkpoint of {folder.parent}") from damage


def _read(folder: Path) -> Checkpoint:
    actor = folder / "actor"
    if any((actor / name).is_dir() for name in MEGATRON_FOLDERS):
        raise ValueError(
            f"{folder}: a Megatron checkpoint, and only FSDP is supported; use {MERGE_MEGATRON.format(actor=actor)}"
        )
    checkpoint = Checkpoint(folder, int(folder.name.rpartition("_")[2]), _world_size(actor / FSDP_CONFIG_FILE))
    for file in (checkpoint.model_config / "config.json", *checkpoint.shards):
        if not file.is_file():
            raise ValueError(f"{file} is missing: the checkpoint is incomplete; choose another one")
        if file.suffix == ".pt" and not zipfile.is_zipfile(file):
            raise ValueError(f"{file} is truncated: the checkpoint is incomplete; choose another one")
    return checkpoint


def _world_size(file: Path) -> int:
    if not file.is_file():
        raise ValueError(f"{file} is missing: not an FSDP checkpoint, or incomplete; choose another one")
    try:
        world_size = int(json.loads(file.read_text(encoding="utf-8"))["world_size"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} has no world_size: the checkpoint is incomplete; choose another one") from error
    if world_size < 1:
        raise ValueError(f"{file}: world_size is {world_size}, must be 1 or more; choose another checkpoint")
    return world_size
