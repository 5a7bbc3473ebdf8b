"""How rewards and lengths are distributed, step by step: the columns of a picture, each the shares of its bins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

BINS = 24
DECIMALS = 5
"""Rewards that are closer are one value: float32 and float64 of the same number."""


def histogram(title: str, values: Mapping[int, Sequence[float]]) -> dict[str, Any] | None:
    """Return the distribution of `values` at each step, with the same bins; None without finite values."""
    arrays = {step: np.asarray(each, float) for step, each in values.items()}
    arrays = {step: finite for step, each in arrays.items() if (finite := each[np.isfinite(each)]).size}
    if not arrays:
        return None
    edges = _edges(np.concatenate(list(arrays.values())))
    shares = [np.histogram(each, edges)[0] / each.size for each in arrays.values()]
    means = [each.mean() for each in arrays.values()]
    return {"title": title, "x": list(arrays), "edges": edges, "shares": shares, "means": means}


def _edges(values: np.ndarray) -> np.ndarray:
    """Return the bounds of the bins: of a few values, each has its own bin."""
    distinct = np.unique(values.round(DECIMALS))
    gap = np.diff(distinct).min() if len(distinct) > 1 else 1.0
    bins = round((distinct[-1] - distinct[0]) / gap) + 1
    if bins > BINS:
        return np.linspace(values.min(), values.max(), BINS + 1)
    return np.linspace(distinct[0] - gap / 2, distinct[-1] + gap / 2, bins + 1)
