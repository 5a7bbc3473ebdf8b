"""The metrics of a run as a rule reads them: means over windows of steps at its beginning, middle and end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from reinforcepp_verl.report.metric_series import Curve
from reinforcepp_verl.report.validation_metric import validation_key

SCORE = "critic/score/mean"
MAIN_VALIDATION = "validation"
"""The name under which a rule finds the main validation metric, whatever it is called."""
SHORTEST_WINDOW, LONGEST_WINDOW = 5, 50


@dataclass(frozen=True)
class Window:
    """The finite values of a metric in some consecutive steps."""

    steps: np.ndarray
    values: np.ndarray

    @property
    def mean(self) -> float:
        """Their mean."""
        return float(self.values.mean())


@dataclass(frozen=True)
class Change:
    """A metric at the beginning and at the end of a range of steps."""

    metric: str
    before: Window
    after: Window

    @property
    def difference(self) -> float:
        """Of the means."""
        return self.after.mean - self.before.mean

    @property
    def standard_error(self) -> float:
        """Of the difference, with the spread from step to step as that of independent values."""
        return float(np.sqrt(sum(window.values.var() / len(window.values) for window in (self.before, self.after))))

    def exceeds(self, errors: float) -> bool:
        """Return True if the difference, up or down, is more than so many standard errors."""
        return abs(self.difference) > errors * self.standard_error

    def __str__(self) -> str:
        return f"{self.metric} {self.before.mean:.4g} -> {self.after.mean:.4g}"


class Measured:
    """The metrics of the steps of a run that trained; a metric that the run did not record is not there."""

    def __init__(self, series: Mapping[str, Curve]) -> None:
        self.curves: dict[str, Window] = {}
        self.not_finite: dict[str, np.ndarray] = {}
        """The steps in which a metric is NaN or infinite; windows leave them out."""
        for name, (steps, values) in series.items():
            finite, trained = np.isfinite(values), (steps > 0) | name.startswith("val-")
            if (finite & trained).any():
                self.curves[name] = Window(steps[finite & trained], values[finite & trained])
            if (~finite & trained).any():
                self.not_finite[name] = steps[~finite & trained]
        self.validation = validation_key(self.curves)
        if self.validation is not None:
            self.curves[MAIN_VALIDATION] = self.curves[self.validation]

    def steps_of(self, metrics: Iterable[str]) -> int:
        """Return the number of steps of the metric that has the fewest, validations aside; without one, of the run."""
        trained = {name: len(curve.steps) for name, curve in self.curves.items() if not name.startswith("val")}
        return min((trained[name] for name in metrics if name in trained), default=max(trained.values(), default=0))

    def __contains__(self, metric: str) -> bool:
        return metric in self.curves

    def __getitem__(self, metric: str) -> Window:
        return self.curves[metric]

    def change(self, metric: str, since: float = 0.0) -> Change | None:
        """Compare the last steps with the first, or with those after the share `since` of the run.

        A window is a tenth of the steps, at least 5 and at most 50; None if there are fewer than two windows.
        """
        curve = self.curves.get(metric)
        if curve is None:
            return None
        begin, size = int(since * len(curve.steps)), window_size(len(curve.steps))
        if len(curve.steps) - begin < 2 * size:
            return None
        return Change(metric, _part(curve, begin, begin + size), _part(curve, len(curve.steps) - size, None))

    def last(self, metric: str) -> Window | None:
        """Return the last window of a metric; None with fewer steps than a window has."""
        curve = self.curves.get(metric)
        if curve is None or len(curve.steps) < SHORTEST_WINDOW:
            return None
        return _part(curve, len(curve.steps) - window_size(len(curve.steps)), None)


def window_size(steps: int) -> int:
    """Return the number of steps in a window."""
    return min(max(steps // 10, SHORTEST_WINDOW), LONGEST_WINDOW)


def _part(curve: Window, begin: int, end: int | None) -> Window:
    return Window(curve.steps[begin:end], curve.values[begin:end])
