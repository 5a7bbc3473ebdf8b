"""Reading single values of a configuration, and wording that several checks share."""

from __future__ import annotations

from typing import Any, TypeGuard

from omegaconf import DictConfig, OmegaConf

from reinforcepp_verl.config import keys

TRAINER_PREFIX = "reinforcepp_"


def value(config: DictConfig, key: str) -> Any:
    """Return the resolved value of a dotted key, None where it is null, missing or below something that is."""
    return OmegaConf.select(config, key)


def trainer_mode(config: DictConfig) -> str:
    """Return the mode of verl's trainer, of which ours are extensions."""
    return str(value(config, keys.TRAINER_MODE)).removeprefix(TRAINER_PREFIX)


def is_count(candidate: Any) -> TypeGuard[int]:
    """Return True for an integer of at least 1."""
    return isinstance(candidate, int) and not isinstance(candidate, bool) and candidate >= 1


def is_number(candidate: Any) -> TypeGuard[float]:
    """Return True for a number, which in YAML neither true nor "1.0" is."""
    return isinstance(candidate, int | float) and not isinstance(candidate, bool)
