"""Merge, check, move into place: what `reinforcepp export` does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError

from reinforcepp_verl.checkpoints.fsdp_checkpoint import Checkpoint
from reinforcepp_verl.common.replaced_folder import replace_folder
from reinforcepp_verl.export.export_folder import MANIFEST_FILE, refuse_unless_free, write_manifest
from reinforcepp_verl.export.shards import Shards, open_shards
from reinforcepp_verl.export.verify_export import TOLERANCE, Comparison, check, empty_model

SPARE_BYTES = 100 * 2**20
"""Space for tokenizer and configuration, in addition to the weights."""


@dataclass(frozen=True)
class Export:
    """What was written."""

    checkpoint: Checkpoint
    parameters: int
    trained_dtype: str
    size: int
    comparison: Comparison


def export(checkpoint: Checkpoint, out: Path, dtype_name: str, force: bool, say: Callable[[str], None]) -> Export:
    """Write `checkpoint` to the folder `out` and check it there; on an error `out` stays unchanged.

    Raises:
        ValueError: `out` is in use, the checkpoint cannot be exported, or the exported model differs
        OSError: the folder cannot be written
    """
    refuse_unless_free(out, force)
    dtype: torch.dtype = getattr(torch, dtype_name)
    shards = open_shards(checkpoint)
    # Not counted in the shards, which hold tied embeddings twice.
    parameters = empty_model(checkpoint.model_config).num_parameters()
    with replace_folder(out.resolve()) as folder:
        _refuse_full_disk(folder, out, parameters * _bytes(checkpoint, dtype))
        say(f"merging {checkpoint.world_size} shards")
        _merge(checkpoint, folder, dtype)
        say("comparing with the shards: tokens, weights, log-probs")
        comparison = check(folder, checkpoint.model_config, shards, dtype)
        facts = {
            **_origin(checkpoint),
            "step": checkpoint.step,
            "dtype": dtype_name,
            "parameters": parameters,
            "check": {**asdict(comparison), "tolerance": TOLERANCE},
            **{name: version(name) for name in ("verl", "transformers", "torch")},
        }
        write_manifest(folder, facts)
        for file in folder.glob("*.safetensors"):
            # safetensors makes its files readable only by the user; the other files follow the umask.
            shutil.copymode(folder / MANIFEST_FILE, file)
        size = sum(path.stat().st_size for path in folder.iterdir())
    return Export(checkpoint, parameters, _trained_dtype(shards), size, comparison)


def _merge(checkpoint: Checkpoint, folder: Path, dtype: torch.dtype) -> None:
    # Imported here so that a refusal above does not wait for it: verl takes seconds to import.
    from reinforcepp_verl.export.merge_shards import merge

    try:
        merge(checkpoint, folder, dtype)
    except SafetensorError as error:
        raise OSError(f"the weights could not be written: {error}") from error


def _origin(checkpoint: Checkpoint) -> dict[str, str]:
    """Return the run's name, or the path of a checkpoint outside a run folder (verl's own default)."""
    if checkpoint.path.parent == checkpoint.run.checkpoints:
        return {"run": checkpoint.run.path.name}
    return {"checkpoint": str(checkpoint.path)}


def _bytes(checkpoint: Checkpoint, dtype: torch.dtype) -> int:
    """Return the bytes per parameter on disk; an adapter is merged in a float32 copy."""
    return dtype.itemsize + (torch.float32.itemsize if checkpoint.lora.is_file() else 0)


def _refuse_full_disk(folder: Path, out: Path, weights: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < weights + SPARE_BYTES:
        raise ValueError(
            f"{out}: the weights need {weights / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; choose another disk"
        )


def _trained_dtype(shards: Shards) -> str:
    return str(shards[shards.names[0]].dtype).removeprefix("torch.")
