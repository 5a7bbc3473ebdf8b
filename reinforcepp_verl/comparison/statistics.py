"""Statistics over seeds: intervals, paired tests, and the measures of Agarwal et al. 2021 (arXiv 2108.13264).

Their package rliable cannot be imported beside pandas 3, which verl brings; scipy has the parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with the percentile interval of its bootstrap."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def interval(values: np.ndarray) -> Interval:
    """Return the mean of one value per seed with its interval; without width for a single seed or equal values."""
    mean = float(np.mean(values))
    if np.ptp(values) == 0:
        return Interval(mean, mean, mean)
    found = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(1),
    )
    return Interval(mean, float(found.confidence_interval.low), float(found.confidence_interval.high))


def paired_p_value(values: np.ndarray, reference: np.ndarray) -> float:
    """Return the two-sided p-value of the paired permutation test; both have the same seeds in the same order.

    It is exact for up to 13 seeds, and with s seeds at least 2 / 2 ** s: 0.0625 for five.
    """
    if len(values) < 2 or np.array_equal(values, reference):
        return 1.0
    found = stats.permutation_test(
        (values, reference),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=RESAMPLES,
        vectorized=True,
        rng=np.random.default_rng(1),
    )
    return float(found.pvalue)


def interquartile_mean(values: np.ndarray) -> float:
    """Return the mean of the middle half."""
    return float(stats.trim_mean(values, 0.25))


def probability_of_improvement(values: np.ndarray, reference: np.ndarray) -> float:
    """Return how often a run of the one is better than a run of the other, ties counted half (Mann-Whitney's U)."""
    return float(stats.mannwhitneyu(values, reference).statistic / (len(values) * len(reference)))
