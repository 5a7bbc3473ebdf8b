"""Sampling of the training answers: settings that give every answer to a prompt the same tokens."""

from __future__ import annotations

from omegaconf import DictConfig

from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import value

LOWEST_TEMPERATURE = 0.01
"""vLLM raises lower ones to it; below 1e-5 it takes the likeliest token."""


def check(config: DictConfig) -> list[str]:
    """Check temperature and top_k, unless the run only validates."""
    if value(config, keys.VAL_ONLY):
        return []
    temperature, top_k = value(config, keys.TEMPERATURE), value(config, keys.TOP_K)
    if temperature == 0 or top_k == 1:
        key, fix = (keys.TEMPERATURE, 1.0) if temperature == 0 else (keys.TOP_K, -1)
        return [
            f"{key} is {value(config, key)}: every answer to a prompt would be the same, so that there is nothing to "
            f"learn from; set {key}={fix} (for validation alone: {keys.VAL_KWARGS}.{key.rpartition('.')[2]})"
        ]
    if temperature < LOWEST_TEMPERATURE:
        return [
            f"{keys.TEMPERATURE} is {temperature}: vLLM samples at {LOWEST_TEMPERATURE} instead, and the trainer would "
            f"not; set {keys.TEMPERATURE}=1.0"
        ]
    return []
