"""Averages the numbers that a reward function returns beside the score, which verl does for validation only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from reinforcepp_verl.rewards.failures import ERROR_KEY, NO_ANSWER_KEY, TIMEOUT_KEY

KNOWN_OTHERWISE = {"score", ERROR_KEY, TIMEOUT_KEY, NO_ANSWER_KEY}
"""They have metrics of their own: verl's `critic/score`, and the rates of `reward_errors`."""


def reward_values(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return `reward/NAME/mean` over the answers that have that number, from one mapping per answer.

    NaN and infinity are left out: a single one would hide the mean of all the others.
    """
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, given in row.items():
            if name not in KNOWN_OTHERWISE and isinstance(given, Real) and math.isfinite(given):
                found.setdefault(name, []).append(float(given))
    return {f"reward/{name}/mean": sum(values) / len(values) for name, values in found.items()}
