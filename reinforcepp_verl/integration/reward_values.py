"""Averages the numbers that a reward function returns beside the score, which verl does for validation only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from reinforcepp_verl.rewards.failures import ERROR_KEY, NO_ANSWER_KEY, TIMEOUT_KEY, TRUNCATED_KEY

KNOWN_OTHERWISE = {"score", ERROR_KEY, TIMEOUT_KEY, NO_ANSWER_KEY, TRUNCATED_KEY}
"""They have metrics of their own: verl's `critic/score`, and the rates of `reward_errors.py`."""


def reward_values(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return `reward/NAME/mean` over the scored answers that have that number, from one mapping per answer.

    NaN and infinity are left out: a single one would hide the mean of all the others.
    """
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, number in numbers_of(row).items():
            if math.isfinite(number):
                found.setdefault(name, []).append(number)
    return {f"reward/{name}/mean": sum(values) / len(values) for name, values in found.items()}


def numbers_of(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers beside the score of one answer; none of an answer that could not be scored.

    What is missing on such an answer has been filled with zeros.
    """
    given = {} if row.get(ERROR_KEY) else row
    return {
        name: _float(number)
        for name, number in given.items()
        if name not in KNOWN_OTHERWISE and isinstance(number, Real)
    }


def _float(number: Real) -> float:
    try:
        return float(number)
    except OverflowError:  # An integer of hundreds of digits, read from an answer.
        return math.inf
