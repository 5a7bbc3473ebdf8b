"""The config node `hardware`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class HardwareOptions:
    """The node `hardware`: which machine a recipe is meant for, and what the machine chosen by `cluster=` has."""

    meant_for: str | None = None
    """The machine that the recipe's sizes are made for, a name for `cluster=`. `check`, `create`, `slurm submit` and
    `recipes` plan with it where no `cluster=` is given; `train` takes the machine at hand. null: any machine."""

    gpu_memory_gib: float | None = None
    """Memory of one GPU in GiB, which the estimate is compared with; the files of `cluster=` set it. null asks the
    driver of this machine."""
