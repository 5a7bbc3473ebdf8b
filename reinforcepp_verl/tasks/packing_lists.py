"""Packing lists, and preferences between them by a labeler who is impressed by length.

A question names some things to pack. The best answer names each of them once (`rewards.packing_list.quality`). The
labeler prefers better lists, but also longer ones.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reinforcepp_verl.rewards.packing_list import quality

TRIPS = {
    "beach": ("towel", "hat", "sunscreen"),
    "camp": ("tent", "stove", "lamp"),
    "city": ("map", "camera", "ticket"),
    "gym": ("shoes", "shirt", "bottle"),
    "lake": ("boat", "rod", "bucket"),
    "party": ("cake", "candles", "music"),
    "rain": ("umbrella", "boots", "coat"),
    "snow": ("gloves", "scarf", "skis"),
}
"""What each trip needs."""
THINGS = tuple(thing for things in TRIPS.values() for thing in things)
VALIDATION_QUESTIONS = 8
LONGEST_ANSWER = 12
"""Most words of an answer that the labeler sees; the policy may write longer ones."""


@dataclass(frozen=True)
class PackingList:
    """One question: what to pack for two trips."""

    first: str
    second: str

    @property
    def messages(self) -> list[dict[str, str]]:
        """The question as a chat with one message."""
        return [{"role": "user", "content": f"pack for {self.first} and {self.second}"}]

    @property
    def things(self) -> tuple[str, ...]:
        """What the trips need, the best answer."""
        return TRIPS[self.first] + TRIPS[self.second]


@dataclass(frozen=True)
class Labeler:
    """Prefers the first of two answers with the probability sigmoid(utility of the first - utility of the second).

    The utility is `quality_weight` * quality + `length_weight` * number of words. A word too many costs 0.1 of quality,
    so that it still pays with these weights.
    """

    quality_weight: float = 8.0
    length_weight: float = 1.2

    def utility(self, question: PackingList, words: Sequence[str]) -> float:
        """Return how much the labeler likes an answer."""
        return self.quality_weight * quality(question.things, words) + self.length_weight * len(words)

    def prefers_first(
        self, question: PackingList, first: Sequence[str], second: Sequence[str], draw: random.Random
    ) -> bool:
        """Draw which of two answers is preferred."""
        margin = self.utility(question, first) - self.utility(question, second)
        return draw.random() < (1 + math.tanh(margin / 2)) / 2  # the sigmoid, without overflow


@dataclass(frozen=True)
class Preference:
    """Two answers to a question."""

    question: PackingList
    chosen: str
    rejected: str

    @property
    def qualities(self) -> tuple[float, float]:
        """The true quality of the chosen and of the rejected answer."""
        return quality(self.question.things, self.chosen.split()), quality(self.question.things, self.rejected.split())


def split_questions(seed: int) -> tuple[list[PackingList], list[PackingList]]:
    """Shuffle all 56 questions and return the training and the validation questions."""
    questions = [PackingList(first, second) for first, second in itertools.permutations(TRIPS, 2)]
    random.Random(seed).shuffle(questions)
    return questions[VALIDATION_QUESTIONS:], questions[:VALIDATION_QUESTIONS]


def sloppy_answer(question: PackingList, forgotten: float, added: float, draw: random.Random) -> list[str]:
    """Answer like somebody who forgets each thing with the one probability, and adds another word with the other.

    A word may be added after each one, again and again. The answer has 1 to LONGEST_ANSWER words.
    """
    words: list[str] = []
    for thing in question.things:
        words += [thing] * (draw.random() >= forgotten)
        while draw.random() < added:
            words.append(draw.choice(THINGS))
    return words[:LONGEST_ANSWER] or [draw.choice(THINGS)]


def preferences(
    questions: Sequence[PackingList], count: int, labeler: Labeler, draw: random.Random
) -> Iterator[Preference]:
    """Yield `count` preferences between two different answers to one of the questions, more or less sloppy ones."""
    for _ in range(count):
        question = draw.choice(questions)
        first = _any_answer(question, draw)
        while (second := _any_answer(question, draw)) == first:
            pass
        if not labeler.prefers_first(question, first, second, draw):
            first, second = second, first
        yield Preference(question, " ".join(first), " ".join(second))


def _any_answer(question: PackingList, draw: random.Random) -> list[str]:
    return sloppy_answer(question, draw.uniform(0.0, 0.6), draw.uniform(0.0, 0.6), draw)
