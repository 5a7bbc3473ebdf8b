"""Accuracy over k samples per question, with its uncertainty: pass@k, majority@k, mean@k, bootstrap over questions.

`correct[question][sample]` is true if the sample was correct; questions may have different numbers of samples. The
metrics return one value per question, whose mean is the score; the bootstraps take these values. verl's own best@k and
maj@k draw the k samples with replacement, 1000 times, and are therefore lower.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

CONFIDENCE = 0.95
INDICES_AT_A_TIME = 1 << 22


@dataclass(frozen=True)
class BootstrapEstimate:
    """A mean over questions with its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(BootstrapEstimate):
    """A mean difference on the same questions, with a two-sided p-value."""

    p_value: float


def mean_at_k(correct: Sequence[Sequence[bool]]) -> np.ndarray:
    """Return c/n for c correct of n samples: the expected share of correct ones among k of them, for any k."""
    return np.array([np.mean(samples) for samples in correct], dtype=float)


def pass_at_k(correct: Sequence[Sequence[bool]], k: int) -> np.ndarray:
    """Return the probability that k of a question's n samples, drawn without replacement, include a correct one.

    1 - C(n-c, k) / C(n, k) for c correct ones, as the product 1 - prod_{i=n-c+1..n} (1 - k/i), which neither overflows
    nor cancels (Chen et al. 2021, arXiv:2107.03374, equation 1 and figure 3).
    """
    return np.array([_pass(len(samples), int(np.sum(samples)), k) for samples in correct])


def majority_at_k(correct: Sequence[Sequence[bool]], answers: Sequence[Sequence[str]], k: int) -> np.ndarray:
    """Return the probability that the most frequent answer among k of a question's n samples is correct.

    This is the exact expected value over all C(n, k) subsets, not an estimate. Answers are equal if their text is.
    Tied answers share the win equally. A sample without an answer ("") has no vote; without any vote the question is
    wrong. If samples with the same answer have different grades, the answer counts as correct in proportion.
    (Majority voting: Wang et al. 2023, arXiv:2203.11171.)
    """
    return np.array([_majority(*_ballot(right, given), k) for right, given in zip(correct, answers, strict=True)])


def bootstrap(values: np.ndarray, *, resamples: int, seed: int, confidence: float = CONFIDENCE) -> BootstrapEstimate:
    """Return the mean of `values` (one per question) with the percentile interval of its bootstrap over questions.

    Whole questions are drawn with replacement (the samples of one question are not independent), so the interval
    covers both the choice of questions and of samples (Efron & Tibshirani 1993, chapter 13; for evaluations Miller
    2024, arXiv:2411.00640). If all values are equal, the interval has zero width.
    """
    low, high = _interval(_resampled_means(values, resamples, seed), confidence)
    return BootstrapEstimate(float(np.mean(values)), low, high)


def paired_bootstrap(
    first: np.ndarray, second: np.ndarray, *, resamples: int, seed: int, confidence: float = CONFIDENCE
) -> Difference:
    """Return the mean of `second - first`; both must have the same questions in the same order.

    The differences are resampled, so the difficulty that a question has for both cancels out. With R resampled means
    d*, the p-value is 2 (1 + min(#{d* <= 0}, #{d* >= 0})) / (R + 1), at most 1: the level at which the interval begins
    to exclude zero (Koehn 2004, W04-3250; the added ones follow Davison & Hinkley 1997, equation 4.11).
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} questions: both must have the same questions")
    differences = np.subtract(second, first)
    means = _resampled_means(differences, resamples, seed)
    low, high = _interval(means, confidence)
    tail = 1 + min(np.count_nonzero(means <= 0), np.count_nonzero(means >= 0))
    return Difference(float(np.mean(differences)), low, high, min(1.0, 2 * tail / (resamples + 1)))


def _pass(n: int, c: int, k: int) -> float:
    _check(n, k)
    return 1.0 if n - c < k else 1.0 - float(np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))


def _check(n: int, k: int) -> None:
    if not 1 <= k <= n:
        raise ValueError(f"k={k} with {n} samples: k must be at least 1 and at most the number of samples")


def _ballot(correct: Sequence[bool], answers: Sequence[str]) -> tuple[tuple[tuple[int, int], ...], int]:
    """Return (votes, correct votes) of every answer, sorted, and the number of samples without an answer."""
    votes = Counter(answers)
    right = Counter(answer for answer, is_right in zip(answers, correct, strict=True) if is_right)
    blank = votes.pop("", 0)
    return tuple(sorted((count, right[answer]) for answer, count in votes.items())), blank


@lru_cache(maxsize=65536)  # many questions share a ballot, such as "all samples agree"
def _majority(ballot: tuple[tuple[int, int], ...], blank: int, k: int) -> float:
    """Sum over the answers that may win and over their possible numbers of votes.

    Votes drawn without replacement are independent binomials with p = k/n, given that they add up to k.
    """
    n = blank + sum(votes for votes, _ in ballot)
    _check(n, k)
    won = 0.0
    for winner, (votes, right) in enumerate(ballot):
        if right:
            others = [count for other, (count, _) in enumerate(ballot) if other != winner]
            chances = _binomial(votes, k, n)
            tops = range(1, min(votes, k) + 1)
            won += right / votes * sum(chances[top] * _wins(top, others, blank, k, n) for top in tops)
    return float(won / _binomial(n, k, n)[k])


def _wins(top: int, others: Sequence[int], blank: int, k: int, n: int) -> float:
    """Return the share of wins with `top` votes: the probability that no other answer has more, ties shared."""
    # Answers that cannot reach `top` together form one binomial.
    free = blank + sum(count for count in others if count < top)
    ways = np.zeros((k // top, k + 1))  # ways[ties, votes so far]
    ways[0] = _binomial(free, k, n)
    for count in others:
        if count >= top:
            chances = _binomial(count, k, n)
            total = np.zeros_like(ways)
            for drawn in range(top):
                total[:, drawn:] += chances[drawn] * ways[:, : k + 1 - drawn]
            total[1:, top:] += chances[top] * ways[:-1, : k + 1 - top]
            ways = total
    return float(np.sum(ways[:, k - top] / np.arange(1, len(ways) + 1)))


@lru_cache(maxsize=65536)
def _binomial(count: int, k: int, n: int) -> np.ndarray:
    """Return the probabilities of 0..k successes in `count` draws with p = k/n."""
    chances = np.zeros(k + 1)
    if k == n:
        chances[count] = 1.0
        return chances
    for drawn in range(min(count, k) + 1):
        log_ways = math.lgamma(count + 1) - math.lgamma(drawn + 1) - math.lgamma(count - drawn + 1)
        chances[drawn] = math.exp(log_ways + drawn * math.log(k / n) + (count - drawn) * math.log1p(-k / n))
    return chances


def _resampled_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    if not len(values) or resamples < 1:
        raise ValueError(f"{len(values)} questions and {resamples} resamples: a bootstrap needs at least one of each")
    generator = np.random.default_rng(seed)
    values = np.sort(values)  # so that the order of the questions does not matter
    rows = max(1, INDICES_AT_A_TIME // len(values))
    sizes = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    means = [values[generator.integers(len(values), size=(size, len(values)))].mean(axis=1) for size in sizes]
    # Rounded, because a mean that differs from zero only by rounding must count as zero.
    return np.round(np.concatenate(means), 12)


def _interval(means: np.ndarray, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
