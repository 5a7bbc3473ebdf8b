"""Refuses weights that are not finite: reads the shards of a checkpoint before it becomes valid."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from reinforcepp_verl.guards import GuardError

SHARD_THREADS = 4
"""Number of shards read at a time; each is memory-mapped, so that its pages can be dropped again."""


def check_finite_weights(folder: Path, world_size: int) -> None:
    """Read a model's shards `model_world_size_W_rank_R.pt`, which were just written.

    Raises:
        GuardError: a parameter is NaN or infinite; the message names the first one and its shard
    """
    names = [f"model_world_size_{world_size}_rank_{rank}.pt" for rank in range(world_size)]
    files = [folder / name for name in names]
    with ThreadPoolExecutor(SHARD_THREADS) as pool:
        for file, name in zip(files, pool.map(_first_non_finite, files), strict=True):
            if name is not None:
                raise GuardError(
                    f"{name} in {file.name} has NaN or infinite values, so the checkpoint is not kept: resume from the "
                    "one before with a lower learning rate"
                )


def _first_non_finite(file: Path) -> str | None:
    state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    tensors = ((name, value.to_local() if isinstance(value, DTensor) else value) for name, value in state.items())
    return next((name for name, value in tensors if not _is_finite(value)), None)


def _is_finite(values: Tensor) -> bool:
    """Check without a copy: the smallest and the largest value are NaN if any value is."""
    if not values.is_floating_point() or values.numel() == 0:
        return True
    # 8-bit floats do not support a minimum.
    low, high = torch.aminmax(values if values.itemsize > 1 else values.float())
    return bool(torch.isfinite(low) & torch.isfinite(high))
