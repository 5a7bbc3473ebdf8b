"""The GPU that a configuration is sized for."""

from __future__ import annotations

import shutil
import subprocess

from omegaconf import DictConfig

from reinforcepp_verl.config.reading import value
from reinforcepp_verl.sizing.layout import ACTOR
from reinforcepp_verl.sizing.memory_estimate import MemoryEstimate, estimate
from reinforcepp_verl.sizing.model_size import ModelSize, model_size

GPU = "hardware.gpu_memory_gib"


MODEL = "actor_rollout_ref.model.path"


def memory_of(config: DictConfig) -> MemoryEstimate | None:
    """Return the estimate for a configuration, None where the GPU's or the model's size is not known here."""
    known = sized(config)
    return estimate(config, *known) if known else None


def sized(config: DictConfig) -> tuple[ModelSize, float] | None:
    if value(config, "trainer.device") == "cpu" or value(config, f"{ACTOR}.strategy") not in ("fsdp", "fsdp2"):
        return None
    model, gpu_gib = model_size(value(config, MODEL)), value(config, GPU) or _this_machines_gpu()
    return (model, gpu_gib) if model and gpu_gib else None


def _this_machines_gpu() -> float | None:
    """Ask the driver for the memory of the first GPU: torch would hold some of it for as long as this process lives."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    first = answer.stdout.strip().splitlines()[:1]
    return int(first[0]) / 1024 if answer.returncode == 0 and first and first[0].isdecimal() else None
