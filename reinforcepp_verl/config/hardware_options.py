"""The config node `hardware`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class HardwareOptions:
    """The node `hardware`: the machine that a recipe is meant for, and properties of the machine of `cluster=`."""

    meant_for: str | None = None
    """The machine that the recipe's sizes are made for, a name for `cluster=`. `check`, `create`, `slurm submit` and
    `recipes` plan with it unless `cluster=` is given; `train` uses the current machine. null: any machine."""

    gpu_memory_gib: float | None = None
    """Memory of one GPU in GiB, compared with the estimate; the files of `cluster=` set it. null: query the driver of
    this machine."""
