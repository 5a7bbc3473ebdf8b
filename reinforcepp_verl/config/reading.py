"""Reads single values of a configuration."""

from __future__ import annotations

from typing import Any, TypeGuard

from omegaconf import DictConfig, OmegaConf

from reinforcepp_verl.config import keys

TRAINER_PREFIX = "reinforcepp_"
FSDP_ENGINE = "dp"
"""verl's name of the FSDP engine, the default `model_engine`."""


def value(config: DictConfig, key: str) -> Any:
    """Return the resolved value of a dotted key, None if it or a parent is null or missing."""
    return OmegaConf.select(config, key)


def trainer_mode(config: DictConfig) -> str:
    """Return the mode of verl's trainer that is used or extended."""
    return str(value(config, keys.TRAINER_MODE)).removeprefix(TRAINER_PREFIX)


def world_size(config: DictConfig) -> int:
    """Return the number of FSDP workers of a valid configuration."""
    return int(value(config, keys.NNODES) * value(config, keys.N_GPUS_PER_NODE))


def is_count(candidate: Any) -> TypeGuard[int]:
    """Return True for an integer of at least 1."""
    return isinstance(candidate, int) and not isinstance(candidate, bool) and candidate >= 1


def is_number(candidate: Any) -> TypeGuard[float]:
    """Return True for a number, but not for YAML's true or "1.0"."""
    return isinstance(candidate, int | float) and not isinstance(candidate, bool)
