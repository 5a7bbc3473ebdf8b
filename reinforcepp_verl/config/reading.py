"""Reading single values of a configuration, and wording that several checks share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, TypeGuard

from omegaconf import DictConfig, OmegaConf

OUR_TRAINERS = "reinforcepp_"


def value(config: DictConfig, key: str) -> Any:
    """Return the resolved value of a dotted key, None where it is null, missing or below something that is."""
    return OmegaConf.select(config, key)


def trainer_mode(config: DictConfig) -> str:
    """Return the mode of verl's trainer, of which ours are extensions."""
    return str(value(config, "trainer.v1.trainer_mode")).removeprefix(OUR_TRAINERS)


def is_count(candidate: Any) -> TypeGuard[int]:
    """Return True for an integer of at least 1."""
    return isinstance(candidate, int) and not isinstance(candidate, bool) and candidate >= 1


def is_number(candidate: Any) -> TypeGuard[float]:
    """Return True for a number, which in YAML neither true nor "1.0" is."""
    return isinstance(candidate, int | float) and not isinstance(candidate, bool)


def nearest(name: object, known: Iterable[str]) -> str | None:
    """Return the known name that is spelt most like `name`, None when none is near."""
    return next(iter(difflib.get_close_matches(str(name), list(known), n=1)), None)


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return " (did you mean X?)" for the nearest known name, or nothing when none is near."""
    near = nearest(name, known)
    return f" (did you mean {near}?)" if near else ""


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message that says something, or its type."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
