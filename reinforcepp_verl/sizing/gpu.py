"""The GPU that a configuration is sized for."""

from __future__ import annotations

from omegaconf import DictConfig

from reinforcepp_verl.config import keys, machines
from reinforcepp_verl.config.reading import value
from reinforcepp_verl.sizing.memory_estimate import MemoryEstimate, estimate
from reinforcepp_verl.sizing.model_size import ModelSize, model_size


def estimate_for(config: DictConfig) -> MemoryEstimate | None:
    """Return the estimate for a configuration, None if the size of the GPU or the model is unknown."""
    known = model_and_gpu_size(config)
    return estimate(config, *known) if known else None


def model_and_gpu_size(config: DictConfig) -> tuple[ModelSize, float] | None:
    if value(config, keys.DEVICE) == "cpu" or value(config, keys.ACTOR_STRATEGY) not in ("fsdp", "fsdp2"):
        return None
    model = model_size(value(config, keys.MODEL_PATH))
    gpu_gib = machines.memory_gib(config)
    return (model, gpu_gib) if model and gpu_gib else None
