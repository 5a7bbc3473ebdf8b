"""Which prompts and answers of a step are kept, and how many tokens of each: the same ones for the same batch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean


@dataclass(frozen=True)
class Candidate:
    """An answer of the batch: its number among the answers to its prompt, and the keys of its rows in the queue."""

    number: int
    reward: float
    keys: tuple[str, ...]
    dropped: bool = False


@dataclass(frozen=True)
class Group:
    """All answers to a prompt in the batch."""

    uid: str
    answers: Sequence[Candidate]

    @property
    def mean(self) -> float:
        """Mean of the finite rewards; NaN if there is none."""
        rewards = self._finite()
        return fmean(rewards) if rewards else math.nan

    @property
    def std(self) -> float:
        """Standard deviation of the finite rewards, without Bessel's correction; 0 if there is none."""
        rewards, mean = self._finite(), self.mean
        return math.sqrt(fmean((reward - mean) ** 2 for reward in rewards)) if rewards else 0.0

    def _finite(self) -> list[float]:
        return [answer.reward for answer in self.answers if math.isfinite(answer.reward)]


def choose_groups(groups: Iterable[Group], wanted: int) -> list[Group]:
    """Return `wanted` groups, evenly spread from the least certain to the most certain one.

    The larger the standard deviation of the rewards, the less certain. Of groups with the same one, that with the
    lowest mean is first, and then that which is first in the batch.
    """
    ranked = sorted(groups, key=lambda group: (-group.std, math.isnan(group.mean), group.mean))
    return [ranked[place] for place in evenly_spread(len(ranked), wanted)]


def choose_answers(group: Group, wanted: int) -> list[Candidate]:
    """Return `wanted` answers, evenly spread from the highest reward to the lowest; NaN is last."""
    ranked = sorted(group.answers, key=lambda answer: (math.isnan(answer.reward), -answer.reward, answer.number))
    return [ranked[place] for place in evenly_spread(len(ranked), wanted)]


def evenly_spread(count: int, wanted: int) -> list[int]:
    """Return `wanted` of the places 0 to `count - 1`, all if there are fewer: the first, the last, those between."""
    if wanted >= count:
        return list(range(count))
    if wanted <= 1:
        return [0] * wanted
    return [round(step * (count - 1) / (wanted - 1)) for step in range(wanted)]


def fair_limit(lengths: Iterable[int], budget: int) -> int:
    """Return the largest length to which all texts can be cut so that together they fit `budget`; at least 2."""
    limit = 0
    ascending = sorted(lengths)
    for place, length in enumerate(ascending):
        share = budget // (len(ascending) - place)
        if length > share:
            return max(2, share)
        budget -= length
        limit = length
    return max(2, limit)


def kept_ends(length: int, limit: int) -> tuple[int, int]:
    """Return how many tokens are kept at the start and at the end of a text of `length` tokens."""
    return (length, 0) if length <= limit else (limit - limit // 2, limit // 2)
