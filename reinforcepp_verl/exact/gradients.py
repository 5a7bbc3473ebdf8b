"""Exact mean and variance of gradient estimators for answers that are right (1) or wrong (0).

The policy is a softmax over the answers to each of `P` prompts. A prompt is answered rightly with probability p, in one
of `wordings` equally likely ways, and wrongly in one of as many. The gradient of the expected score is then
`p (1 - p) / P / wordings` in the logit of each right answer and the same with a minus for each wrong one: one number
per prompt describes it, and the expectation of every estimator here has the same form. An estimator's gradient is the
mean over the batch of an answer's advantage times the gradient of its log-probability.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reinforcepp_verl.exact import counts

VARIANCE_FLOOR = 1e-8
# verl's, added to the standard deviation of a group.
GRPO_EPSILON = 1e-6


@dataclass(frozen=True)
class Setting:
    """A batch asks each prompt `groups` times, with `n` answers."""

    probabilities: tuple[float, ...]
    n: int
    groups: int = 1
    wordings: int = 8

    @property
    def batch(self) -> int:
        """Answers in the batch."""
        return len(self.probabilities) * self.groups * self.n


@dataclass(frozen=True)
class Moments:
    """What the gradient is on average, and how it varies.

    `mean` and `variance` have an entry for each prompt: of the sum of the gradient over the logits of right answers.
    `energy` is the expected sum of squared advantages divided by the squared size of the batch: how much the gradient
    varies between the wordings, which are all as good.
    """

    mean: np.ndarray
    variance: np.ndarray
    energy: float

    def angle(self, truth: np.ndarray) -> float:
        """Return the angle in degrees between the expected and the true gradient: the bias that no step size mends."""
        cosine = self.mean @ truth / (np.linalg.norm(self.mean) * np.linalg.norm(truth))
        return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))

    def total_variance(self, wordings: int) -> float:
        """Return the variance of the gradient, summed over all logits."""
        return float(2 / wordings * self.variance.sum() + (1 - 1 / wordings) * self.energy)

    def noise(self, setting: Setting) -> float:
        """Return the standard deviation of the gradient divided by its length, times the root of the batch size.

        Independent answers would give the same value for every batch size.
        """
        length = np.sqrt(2 / setting.wordings) * np.linalg.norm(self.mean)
        return float(np.sqrt(setting.batch * self.total_variance(setting.wordings)) / length)


def true_gradient(setting: Setting) -> np.ndarray:
    """Return the gradient of the expected score, in the form of `Moments.mean`."""
    p = np.array(setting.probabilities)
    return p * (1 - p) / len(p)


def reinforce(setting: Setting, baseline: float = 0.0) -> Moments:
    """REINFORCE with a constant baseline: no baseline, or a moving average that has settled."""
    return _by_group(setting, lambda c: (np.full_like(c, 1 - baseline), np.full_like(c, -baseline)))


def leave_one_out(setting: Setting) -> Moments:
    """RLOO: minus the mean of the other answers to the prompt (arXiv 2402.14740)."""
    n = setting.n
    return _by_group(setting, lambda c: (1 - (c - 1) / (n - 1), -c / (n - 1)))


def group_mean(setting: Setting) -> Moments:
    """The score minus the mean of its group, the answer itself included: GRPO without division (Dr. GRPO)."""
    return _by_group(setting, lambda c: (1 - c / setting.n, -c / setting.n))


def grpo(setting: Setting) -> Moments:
    """The same, divided by the standard deviation of the group, with Bessel's correction as in verl."""
    n = setting.n

    def advantages(c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        deviation = np.sqrt(c * (n - c) / n / (n - 1)) + GRPO_EPSILON
        return (1 - c / n) / deviation, -c / n / deviation

    return _by_group(setting, advantages)


def batch_mean(setting: Setting) -> Moments:
    """The score minus the mean of the batch, without division: FlashREINFORCE."""
    return _by_right_answers(setting, lambda mean: np.ones_like(mean))


def reinforcepp(setting: Setting) -> Moments:
    """REINFORCE++: the score minus the mean of the batch, divided by the batch's standard deviation (Eq. 5)."""
    return _by_right_answers(setting, lambda mean: 1 / np.sqrt(np.maximum(mean * (1 - mean), VARIANCE_FLOOR)))


def reinforcepp_baseline(setting: Setting, *, pin: bool = False) -> Moments:
    """REINFORCE++-baseline: minus the group's mean, divided by the batch's standard deviation of that (Eq. 6-7).

    `pin`: groups whose answers are all right or all wrong do not count for it (`zero_signal=pin`).
    A group with c right answers contributes `c (n - c) / n` to the gradient, before the division, and to the sum of the
    squares alike.
    """
    spreads = counts.spreads(list(setting.probabilities), setting.n, setting.groups, count_groups=pin)
    chances = spreads[0][0]
    squares = np.arange(chances.shape[0])[:, None] / setting.n
    counted = setting.n * np.arange(chances.shape[1])[None] if pin else np.full((1, 1), setting.batch)
    factor = 1 / np.sqrt(np.maximum(squares / np.maximum(counted, 1), VARIANCE_FLOOR)) / setting.batch
    first = np.array([(weighted[1] * factor).sum() for weighted in spreads]) / setting.n
    second = np.array([(weighted[2] * factor**2).sum() for weighted in spreads]) / setting.n**2
    return Moments(first, second - first**2, float((chances * squares * factor**2).sum()))


def _by_group(setting: Setting, advantages: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Moments:
    """For advantages that depend on the group only: of a right and a wrong answer, by the group's right answers."""
    c = np.arange(setting.n + 1.0)
    right, wrong = advantages(c)
    mean, variance, energy = [], [], 0.0
    for p in setting.probabilities:
        chances = counts.binomial(setting.n, p)
        gradient = (c * right * (1 - p) - (setting.n - c) * wrong * p) / setting.batch
        first = chances @ gradient
        mean.append(setting.groups * first)
        variance.append(setting.groups * (chances @ gradient**2 - first**2))
        energy += setting.groups * float(chances @ (c * right**2 + (setting.n - c) * wrong**2)) / setting.batch**2
    return Moments(np.array(mean), np.array(variance), energy)


def _by_right_answers(setting: Setting, scale: Callable[[np.ndarray], np.ndarray]) -> Moments:
    """For advantages `(score - mean) * scale(mean)` with the mean of the batch."""
    own = setting.n * setting.groups
    weighted = counts.right_answers(list(setting.probabilities), own)
    mean = np.arange(setting.batch + 1) / setting.batch
    factor = scale(mean) / setting.batch
    first, second = [], []
    for p, (one, x, x2) in zip(setting.probabilities, weighted, strict=True):
        # x right answers give the gradient factor * (x (1 - mean)(1 - p) + (own - x) mean p) = factor * (x a + b).
        a, b = (1 - mean) * (1 - p) - mean * p, own * mean * p
        first.append((factor * (a * x + b * one)).sum())
        second.append((factor**2 * (a**2 * x2 + 2 * a * b * x + b**2 * one)).sum())
    energy = float((weighted[0][0] * setting.batch * mean * (1 - mean) * factor**2).sum())
    return Moments(np.array(first), np.array(second) - np.array(first) ** 2, energy)


ESTIMATORS: dict[str, Callable[[Setting], Moments]] = {
    "reinforce, no baseline": reinforce,
    "reinforce, moving average": lambda setting: reinforce(setting, float(np.mean(setting.probabilities))),
    "rloo": leave_one_out,
    "group mean (Dr. GRPO)": group_mean,
    "grpo": grpo,
    "flash_reinforce (batch mean)": batch_mean,
    "reinforcepp": reinforcepp,
    "reinforcepp_baseline": reinforcepp_baseline,
    "reinforcepp_baseline, pin": lambda setting: reinforcepp_baseline(setting, pin=True),
}
"""By their names in the page; each takes a setting."""
