"""Collects the records of a run, step by step, into arrays."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

Curve = tuple[np.ndarray, np.ndarray]
"""Steps, strictly increasing, and the metric's values, which may be NaN."""
LARGEST_STEP = 2**62


class Columns:
    """The values of each metric, 16 bytes per value."""

    def __init__(self, wanted: Callable[[str], bool]) -> None:
        """`wanted` selects metrics by name."""
        self._wanted = wanted
        self._known = {"step"}
        self._columns: dict[str, tuple[array, array]] = {}
        self._steps = array("q")

    def add(self, record: dict[str, Any]) -> None:
        """Add the numbers of a record; null is NaN.

        A step that goes back is a resume from a checkpoint, so later values are removed.

        Raises:
            ValueError: the record has no step, or a number is too large
        """
        step = record.get("step")
        if not isinstance(step, int) or isinstance(step, bool) or abs(step) >= LARGEST_STEP:
            raise ValueError('no integer "step"')
        if step <= self.last_step:
            self._remove_after(step)
        if step != self.last_step:
            self._steps.append(step)
        if not record.keys() <= self._known:
            self._add_columns([name for name in record if name not in self._known])
        for name in self._columns.keys() & record.keys():
            if (number := _number(record[name])) is not None:
                _put(self._columns[name], step, number)

    @property
    def last_step(self) -> int:
        """The last step added; smaller than any other if there is none."""
        return self._steps[-1] if self._steps else -LARGEST_STEP

    @property
    def is_contiguous(self) -> bool:
        """True if no step is missing between the first and the last."""
        return not self._steps or self._steps[-1] - self._steps[0] == len(self._steps) - 1

    def curves(self) -> dict[str, Curve]:
        """Return the metrics that have values; nothing can be added afterwards."""
        return {
            name: (np.frombuffer(steps, np.int64), np.frombuffer(values, np.float64))
            for name, (steps, values) in self._columns.items()
            if steps
        }

    def _add_columns(self, names: Collection[str]) -> None:
        self._known.update(names)
        self._columns.update({name: (array("q"), array("d")) for name in names if self._wanted(name)})

    def _remove_after(self, step: int) -> None:
        del self._steps[bisect_right(self._steps, step) :]
        for steps, values in self._columns.values():
            kept = bisect_right(steps, step)
            del steps[kept:], values[kept:]


def _put(column: tuple[array, array], step: int, value: float) -> None:
    steps, values = column
    if steps and steps[-1] == step:
        values[-1] = value
    else:
        steps.append(step)
        values.append(value)


def _number(value: Any) -> float | None:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError("a number is too large") from error
