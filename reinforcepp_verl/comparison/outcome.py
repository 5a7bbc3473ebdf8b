"""What a table of results says of each method, by seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from reinforcepp_verl.comparison import statistics
from reinforcepp_verl.comparison.cells import ACCURACY, MEMORY
from reinforcepp_verl.comparison.statistics import Interval

THRESHOLD = 0.7


@dataclass(frozen=True)
class Outcome:
    """A method's results in a suite."""

    method: str
    seeds: list[int]
    final: Interval
    """Accuracy of the last validation."""
    over_training: Interval
    """Mean accuracy of all validations after the first: how fast and how steadily it learns."""
    difference: Interval
    """Of the accuracy over training to that of the reference, on the seeds that both have."""
    p_value: float
    improvement: float
    """Probability that its accuracy over training is better than the reference's."""
    kl: float | None
    length: float
    step_s: float
    memory_gb: float
    seconds_to_threshold: float | None
    """Median training time until a validation is at `THRESHOLD`; None if half of the seeds or more never are."""


def curve(table: pd.DataFrame, method: str, metric: str) -> pd.DataFrame:
    """Return a metric of a method: a row for each step, a column for each seed."""
    rows = table[(table.method == method) & (table.metric == metric)]
    return rows.pivot_table(index="step", columns="seed", values="value")


def of_method(table: pd.DataFrame, method: str, reference: str) -> Outcome:
    """Return a method's results; the table has at least one seed of it and of the reference."""
    accuracy = curve(table, method, ACCURACY)
    mean, reference_mean = _over_training(accuracy), _over_training(curve(table, reference, ACCURACY))
    shared = sorted(set(mean.index) & set(reference_mean.index))
    own, other = mean[shared].to_numpy(), reference_mean[shared].to_numpy()
    kl = curve(table, method, "kl")
    return Outcome(
        method=method,
        seeds=[int(seed) for seed in accuracy.columns],
        final=statistics.interval(accuracy.iloc[-1].to_numpy()),
        over_training=statistics.interval(mean.to_numpy()),
        difference=statistics.interval(own - other),
        p_value=statistics.paired_p_value(own, other),
        improvement=statistics.probability_of_improvement(mean.to_numpy(), reference_mean.to_numpy()),
        kl=None if kl.empty else float(kl.iloc[-1].mean()),
        length=float(curve(table, method, "length").iloc[-1].mean()),
        step_s=float(curve(table, method, "step_s").median().median()),
        memory_gb=float(curve(table, method, MEMORY).iloc[-1].median()),
        seconds_to_threshold=_seconds_to_threshold(accuracy, curve(table, method, "step_s")),
    )


def _over_training(accuracy: pd.DataFrame) -> pd.Series:
    return accuracy.iloc[1:].mean()


def _seconds_to_threshold(accuracy: pd.DataFrame, seconds: pd.DataFrame) -> float | None:
    spent = seconds.cumsum()
    reached = (accuracy >= THRESHOLD).idxmax().where((accuracy >= THRESHOLD).any())
    times = [spent[seed].get(reached[seed], 0.0) if reached[seed] == reached[seed] else np.inf for seed in accuracy]
    median = float(np.median(times))
    return median if np.isfinite(median) else None
