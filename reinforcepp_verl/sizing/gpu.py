"""The GPU that a configuration is sized for."""

from __future__ import annotations

import shutil
import subprocess

from omegaconf import DictConfig

from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import value
from reinforcepp_verl.sizing.memory_estimate import MemoryEstimate, estimate
from reinforcepp_verl.sizing.model_size import ModelSize, model_size


def estimate_for(config: DictConfig) -> MemoryEstimate | None:
    """Return the estimate for a configuration, None where the GPU's or the model's size is not known here."""
    known = model_and_gpu_size(config)
    return estimate(config, *known) if known else None


def model_and_gpu_size(config: DictConfig) -> tuple[ModelSize, float] | None:
    if value(config, keys.DEVICE) == "cpu" or value(config, keys.ACTOR_STRATEGY) not in ("fsdp", "fsdp2"):
        return None
    model = model_size(value(config, keys.MODEL_PATH))
    gpu_gib = value(config, keys.GPU_MEMORY_GIB) or _this_machines_gpu()
    return (model, gpu_gib) if model and gpu_gib else None


def _this_machines_gpu() -> float | None:
    """Ask the driver for the memory of the first GPU: torch would hold some of it for as long as this process lives."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    first = answer.stdout.strip().splitlines()[:1]
    return int(first[0]) / 1024 if answer.returncode == 0 and first and first[0].isdecimal() else None
