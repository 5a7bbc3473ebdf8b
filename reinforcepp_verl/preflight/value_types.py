"""Numbers out of range, and text where a key is true or false; verl checks neither for most keys."""

from __future__ import annotations

import math
from dataclasses import dataclass

from omegaconf import DictConfig

from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import is_number, value
from reinforcepp_verl.config.schema import as_tree, base_value, known_keys, leaves, text_values


@dataclass(frozen=True)
class Range:
    """The valid numbers of a key."""

    key: str
    example: float
    low: float = 0.0
    high: float = math.inf
    low_is_valid: bool = True
    null_is_valid: bool = False

    def problem(self, given: object) -> str | None:
        """Return the message for an invalid value."""
        if given is None and self.null_is_valid:
            return None
        if is_number(given) and math.isfinite(given) and self.low <= given <= self.high:
            if given != self.low or self.low_is_valid:
                return None
        return f"{self.key} is {given!r}: it must be {self._described()}; set {self.key}={self.example}"

    def _described(self) -> str:
        if self.low == -math.inf:
            return "a finite number"
        if self.high < math.inf:
            return f"a number from {self.low:g} to {self.high:g}"
        return f"a finite number {'>=' if self.low_is_valid else '>'} {self.low:g}"


RANGES = (
    Range(keys.GAMMA, 1.0, high=1.0),
    Range(keys.KL_COEF, 0.001),
    Range(keys.ACTOR_LR, 1e-6, high=1.0),
    Range(keys.ACTOR_WEIGHT_DECAY, 0.01, high=1.0),
    Range(keys.ACTOR_CLIP_GRAD, 1.0, low_is_valid=False),
    Range(keys.CLIP_RATIO, 0.2),
    Range(keys.CLIP_RATIO_LOW, 0.2, null_is_valid=True),
    Range(keys.CLIP_RATIO_HIGH, 0.2, null_is_valid=True),
    Range(keys.ENTROPY_COEFF, 0.0, low=-math.inf),
    Range(keys.KL_LOSS_COEF, 0.001),
)


def numbers(config: DictConfig) -> list[str]:
    """Check the numbers of the update, and that the gradient's clip is set where verl reads it."""
    found = [problem for checked in RANGES if (problem := checked.problem(value(config, checked.key)))]
    given, default = value(config, keys.GRAD_CLIP), base_value(keys.GRAD_CLIP)
    if given not in (None, default):
        found.append(
            f"{keys.GRAD_CLIP} is {given!r}: verl does not read it; set {keys.ACTOR_CLIP_GRAD} instead, and "
            f"{keys.GRAD_CLIP}={default}"
        )
    return found


def switches(config: DictConfig) -> list[str]:
    """Find text where the base has true or false: every text is true, also `no` and `off` on the command line."""
    base = known_keys(value(config, keys.MODEL_ENGINE))
    known = {key: content for key, content in leaves(base) if isinstance(content, bool)}
    return [
        f"{key} is {given!r}: it must be true or false; set {key}={str(known[key]).lower()}"
        for key, _ in text_values(as_tree(config))
        if key in known and isinstance(given := value(config, key), str)
    ]
