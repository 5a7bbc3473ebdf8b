"""The median of numbers that arrive one by one, without sorting them again each time."""

from __future__ import annotations

from heapq import heappush, heappushpop


class RunningMedian:
    """Two heaps: the smaller half of the numbers, negated so that its largest is first, and the larger half."""

    def __init__(self) -> None:
        self._lower: list[float] = []
        self._upper: list[float] = []

    def add(self, number: float) -> None:
        """Take in one number."""
        if len(self._lower) == len(self._upper):
            heappush(self._lower, -heappushpop(self._upper, number))
        else:
            heappush(self._upper, -heappushpop(self._lower, -number))

    @property
    def value(self) -> float | None:
        """The median of all numbers so far, None without any."""
        if not self._lower:
            return None
        return -self._lower[0] if len(self._lower) > len(self._upper) else (self._upper[0] - self._lower[0]) / 2
