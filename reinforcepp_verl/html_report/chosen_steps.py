"""Chooses among the steps that a run has kept files of: a page shows a few, spread over the training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def spread(steps: Sequence[int], most: int) -> list[int]:
    """Return at most `most` (at least 2) of the sorted steps, evenly spread, with the first and the last."""
    if len(steps) <= most:
        return list(steps)
    return [steps[index] for index in np.linspace(0, len(steps) - 1, most).round().astype(int)]
