"""Leaves out points of a long curve that would not be seen: a panel is a few hundred pixels wide."""

from __future__ import annotations

import numpy as np

BUCKETS = 1500
"""A longer curve is cut into about this many pieces, of which the lowest and the highest point are drawn."""


def thinned(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a short curve as it is, and of a long one the lowest and highest point of each piece, and both ends."""
    size = _piece(len(steps))
    if size <= 2:
        return steps, values
    starts = np.arange(0, len(steps), size)
    padded = np.full(len(starts) * size, np.nan)
    padded[: len(values)] = values
    finite = np.isfinite(padded)
    lowest, highest = (np.where(finite, padded, missing).reshape(-1, size) for missing in (np.inf, -np.inf))
    kept = np.unique(np.concatenate([starts + lowest.argmin(1), starts + highest.argmax(1), [0, len(steps) - 1]]))
    return steps[kept], values[kept]


def thinned_band(steps: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a short band as it is, and of a long one the bounds of each piece."""
    size = _piece(len(steps))
    if size <= 2:
        return steps, low, high
    starts = np.arange(0, len(steps), size)
    return steps[starts], np.minimum.reduceat(low, starts), np.maximum.reduceat(high, starts)


def _piece(points: int) -> int:
    return -(-points // BUCKETS)
