"""The weights in the shards of an FSDP checkpoint, read without verl's merger in order to check it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

from reinforcepp_verl.checkpoints.fsdp_checkpoint import Checkpoint
from reinforcepp_verl.runs.stop_signals import Stopped

LORA, BASE_LAYER, PEFT_PREFIX = "lora_", ".base_layer.", "base_model.model."
"""Parts of PEFT's weight names in a model with an adapter."""


class Shards:
    """The files of all ranks, memory-mapped: a tensor is read from disk on access."""

    def __init__(self, files: list[Path]) -> None:
        self._ranks = [_load(file) for file in files]
        self.names = list(self._ranks[0])
        for file, rank in zip(files, self._ranks, strict=True):
            if rank.keys() != self._ranks[0].keys():
                raise ValueError(f"{file} has different tensors than {files[0].name}; choose another checkpoint")

    def __getitem__(self, name: str) -> Tensor:
        """Return a full tensor, in the data type of training."""
        pieces = [rank[name] for rank in self._ranks]
        return _joined(name, pieces) if isinstance(pieces[0], DTensor) else _agreed(name, pieces)

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every tensor with its name."""
        return ((name, self[name]) for name in self.names)


class FoldedShards(Shards):
    """The shards of a LoRA checkpoint with the adapter merged into the weights: W + alpha / r * B A, in float32."""

    def __init__(self, files: list[Path], meta: Path) -> None:
        super().__init__(files)
        adapter = json.loads(meta.read_text(encoding="utf-8"))
        self._scale = adapter["lora_alpha"] / adapter["r"]
        stored = [name for name in self.names if LORA not in name]
        self._stored = {name.removeprefix(PEFT_PREFIX).replace(BASE_LAYER, "."): name for name in stored}
        self.names = list(self._stored)
        if not self.names:
            raise ValueError(f"{files[0].parent} has only the adapter: train without checkpoint.save_lora_only")

    def __getitem__(self, name: str) -> Tensor:
        """Return a full tensor with the adapter merged in."""
        stored = self._stored[name]
        module, layer, _ = stored.rpartition(BASE_LAYER)
        if not layer or not name.endswith(".weight"):
            return super().__getitem__(stored)
        down, up = (super(FoldedShards, self).__getitem__(f"{module}.lora_{part}.default.weight") for part in "AB")
        return super().__getitem__(stored).float() + (up.float() @ down.float()) * self._scale


def open_shards(checkpoint: Checkpoint) -> Shards:
    """Open the shards of a checkpoint, with or without an adapter."""
    meta = checkpoint.lora
    return FoldedShards(checkpoint.shards, meta) if meta.is_file() else Shards(checkpoint.shards)


def _load(file: Path) -> dict[str, Any]:
    damaged = f"{file} is damaged; choose another checkpoint"
    try:
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, Stopped):
        raise
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(damaged) from error
    if not isinstance(state, dict) or not state:
        raise ValueError(damaged)
    return state


def _joined(name: str, pieces: list[DTensor]) -> Tensor:
    """Concatenate the pieces of the ranks that FSDP shards over; with replicas, of the first replica."""
    mesh, placement = pieces[0].device_mesh.mesh, pieces[0].placements[-1]
    local = [pieces[rank].to_local() for rank in mesh.reshape(-1, mesh.shape[-1])[0].tolist()]
    whole = torch.cat(local, placement.dim) if isinstance(placement, Shard) else local[0]
    if whole.shape != pieces[0].shape:
        raise ValueError(f"{name}: the shards combine to {tuple(whole.shape)}, not {tuple(pieces[0].shape)}")
    return whole


def _agreed(name: str, copies: list[Tensor]) -> Tensor:
    if not all(torch.equal(copy, copies[0]) for copy in copies):
        raise ValueError(f"{name}: the ranks have different copies of a replicated tensor")
    return copies[0]
