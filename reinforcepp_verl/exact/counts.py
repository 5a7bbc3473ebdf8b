"""Distributions of counts over a batch, and their weighted forms, without enumerating the batches.

A batch asks every prompt `groups` times, `n` answers each time; an answer to prompt p is right with probability `p`.
An estimator that normalizes over the batch depends on the other prompts through a sum only: how many answers are right,
or how much the groups vary. The distribution of a sum is a convolution.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import fftconvolve
from scipy.stats import binom

Weighted = list[list[np.ndarray]]
"""`weighted[p][k][s]`: the expectation of `x_p ** k`, times the indicator that the sum over all prompts is `s`."""
POWERS = 3


def binomial(n: int, p: float) -> np.ndarray:
    """Return the probabilities of 0 to n right answers among n."""
    return np.asarray(binom.pmf(np.arange(n + 1), n, p))


def right_answers(probabilities: list[float], answers: int) -> Weighted:
    """Return the weighted distributions of the number of right answers; each prompt has `answers` of them."""
    return _weighted([binomial(answers, p) for p in probabilities], np.arange(answers + 1.0))


def spreads(probabilities: list[float], n: int, groups: int, *, count_groups: bool) -> Weighted:
    """Return the same for the spread `c (n - c)` of a group with c right answers, summed over its prompt's groups.

    The distributions have a second axis: the number of groups whose answers are not all equal if `count_groups`, else
    of length one.
    """
    of_prompt = []
    for p in probabilities:
        one = np.zeros((n * n // 4 + 1, 1 + count_groups))
        for c, probability in enumerate(binomial(n, p)):
            one[c * (n - c), int(count_groups and 0 < c < n)] += probability
        of_prompt.append(_power(one, groups))
    return _weighted(of_prompt, np.arange(of_prompt[0].shape[0], dtype=float)[:, None])


def _weighted(distributions: list[np.ndarray], values: np.ndarray) -> Weighted:
    result = []
    for p, own in enumerate(distributions):
        others = [other for q, other in enumerate(distributions) if q != p]
        rest = np.ones((1,) * own.ndim)
        for other in others:
            rest = fftconvolve(rest, other)
        result.append([fftconvolve(own * values**power, rest) for power in range(POWERS)])
    return result


def _power(distribution: np.ndarray, times: int) -> np.ndarray:
    """Return the distribution of the sum of `times` independent values."""
    result = np.ones((1,) * distribution.ndim)
    while times:
        if times % 2:
            result = fftconvolve(result, distribution)
        times //= 2
        if times:
            distribution = fftconvolve(distribution, distribution)
    return result
