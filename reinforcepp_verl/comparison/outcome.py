"""What a table of results says of each method, by seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from reinforcepp_verl.comparison import statistics
from reinforcepp_verl.comparison.cells import ACCURACY, MEMORY
from reinforcepp_verl.comparison.statistics import Interval

THRESHOLD = 0.7
# A single step has few answers.
LAST_STEPS = 10


@dataclass(frozen=True)
class Versus:
    """A method against the reference, by accuracy over training, on the seeds that both have."""

    difference: Interval
    p_value: float
    improvement: float
    """Probability that a run of the method is better than one of the reference."""


@dataclass(frozen=True)
class Outcome:
    """A method's results in a suite."""

    method: str
    seeds: list[int]
    final: Interval
    """Accuracy of the last validation."""
    over_training: Interval
    """Mean accuracy of all validations after the first: how fast and how steadily it learns."""
    versus: Versus | None
    """Compared with the reference; None for itself, and if there is no seed that both have."""
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
    """Return a method's results; the table has at least one seed of it."""
    accuracy = curve(table, method, ACCURACY)
    mean = _over_training(accuracy)
    kl = curve(table, method, "kl")
    return Outcome(
        method=method,
        seeds=[int(seed) for seed in accuracy.columns],
        final=statistics.interval(accuracy.iloc[-1].to_numpy()),
        over_training=statistics.interval(mean.to_numpy()),
        versus=None if method == reference else _versus(mean, _over_training(curve(table, reference, ACCURACY))),
        kl=None if kl.empty else float(kl.iloc[-LAST_STEPS:].mean().mean()),
        length=float(curve(table, method, "length").iloc[-LAST_STEPS:].mean().mean()),
        step_s=float(curve(table, method, "step_s").median().median()),
        memory_gb=float(curve(table, method, MEMORY).iloc[-1].median()),
        seconds_to_threshold=_seconds_to_threshold(accuracy, curve(table, method, "step_s")),
    )


def _versus(own: pd.Series, reference: pd.Series) -> Versus | None:
    shared = sorted(set(own.index) & set(reference.index))
    if not shared:
        return None
    values, others = own[shared].to_numpy(), reference[shared].to_numpy()
    return Versus(
        statistics.interval(values - others),
        statistics.paired_p_value(values, others),
        statistics.probability_of_improvement(values, others),
    )


def _over_training(accuracy: pd.DataFrame) -> pd.Series:
    return accuracy.iloc[1:].mean()


def _seconds_to_threshold(accuracy: pd.DataFrame, seconds: pd.DataFrame) -> float | None:
    spent = seconds.cumsum()
    reached = (accuracy >= THRESHOLD).idxmax().where((accuracy >= THRESHOLD).any())
    times = [spent[seed].get(reached[seed], 0.0) if reached[seed] == reached[seed] else np.inf for seed in accuracy]
    median = float(np.median(times))
    return median if np.isfinite(median) else None
