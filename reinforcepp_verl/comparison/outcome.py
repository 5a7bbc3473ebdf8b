"""What a table of results says of each method, by seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from reinforcepp_verl.comparison import statistics
from reinforcepp_verl.comparison.cells import MEMORY
from reinforcepp_verl.comparison.statistics import Interval
from reinforcepp_verl.comparison.suite import SuiteFile

# A single step has few answers.
LAST_STEPS = 10


@dataclass(frozen=True)
class Versus:
    """A method against the reference, by the mean over training, on the seeds that both have."""

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
    """What the suite measures, at the last validation."""
    over_training: Interval
    """The mean of all validations after the first: how fast and how steadily it learns."""
    versus: Versus | None
    """Compared with the reference; None for itself, and if there is no seed that both have."""
    kl: float | None
    length: float
    step_s: float | None
    """Time and memory are None if the table lacks them, such as of trainings on a machine of another kind."""
    update_s: float | None
    memory_gb: float | None
    tokens_to_threshold: float | None
    """Median number of tokens, prompts included, until a validation is at the suite's threshold; None if half of
    the seeds or more never are."""
    seconds_to_threshold: float | None
    """The same in seconds of training."""


def curve(table: pd.DataFrame, method: str, metric: str) -> pd.DataFrame:
    """Return a metric of a method: a row for each step, a column for each seed."""
    rows = table[(table.method == method) & (table.metric == metric)]
    return rows.pivot_table(index="step", columns="seed", values="value")


def of_method(table: pd.DataFrame, method: str, suite: SuiteFile) -> Outcome:
    """Return a method's results; the table has at least one seed of it."""
    measured = curve(table, method, suite.measure)
    mean = _over_training(measured)
    reference = _over_training(curve(table, suite.reference, suite.measure))
    kl = curve(table, method, "kl")
    return Outcome(
        method=method,
        seeds=[int(seed) for seed in measured.columns],
        final=statistics.interval(measured.iloc[-1].to_numpy()),
        over_training=statistics.interval(mean.to_numpy()),
        versus=None if method == suite.reference else _versus(mean, reference),
        kl=None if kl.empty else float(kl.iloc[-LAST_STEPS:].mean().mean()),
        length=float(curve(table, method, "length").iloc[-LAST_STEPS:].mean().mean()),
        step_s=_typical(curve(table, method, "step_s")),
        update_s=_typical(curve(table, method, "update_s")),
        memory_gb=_typical(curve(table, method, MEMORY)),
        tokens_to_threshold=_spent_until(measured >= suite.threshold, curve(table, method, "tokens")),
        seconds_to_threshold=_spent_until(measured >= suite.threshold, curve(table, method, "step_s")),
    )


def _typical(values: pd.DataFrame) -> float | None:
    return None if values.empty else float(values.median().median())


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


def _over_training(measured: pd.DataFrame) -> pd.Series:
    return measured.iloc[1:].mean()


def _spent_until(is_there: pd.DataFrame, per_step: pd.DataFrame) -> float | None:
    """Return the median over seeds of what is spent until a step is there."""
    spent = {seed: per_step[seed] for seed in is_there if seed in per_step}
    sums = [
        values.loc[: is_there[seed].idxmax()].sum() if is_there[seed].any() else np.inf
        for seed, values in spent.items()
    ]
    median = float(np.median(sums)) if sums else np.inf
    return median if np.isfinite(median) else None
