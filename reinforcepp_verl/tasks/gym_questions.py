"""Draws questions of a reasoning-gym task. Some depend on the order of sets: it runs where hashes are fixed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any, NamedTuple

from reinforcepp_verl.common import entry_json
from reinforcepp_verl.common.wording import first_line
from reinforcepp_verl.rewards import gym_package

DRAWS_PER_QUESTION = 5
"""After this many draws for each wanted question, a split stays smaller: the task repeats itself."""


class Question(NamedTuple):
    """A question; `entry` and `difficulty` are JSON. `answer` is "" if the task names no right answer."""

    text: str
    answer: str
    entry: str
    difficulty: str


class Drawn(NamedTuple):
    """The different questions of a task; training has none of validation."""

    category: str
    train: list[Question]
    val: list[Question]
    draws: int
    """Number of questions drawn, with the repeated ones."""


def silence() -> None:
    """Discard what the tasks print."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def draw(task: str, config: Mapping[str, Any], seed: int, size: int, val_size: int) -> Drawn:
    """Draw the questions of both splits; those of validation depend neither on `size` nor on other tasks."""
    create_dataset = gym_package.factory().create_dataset
    asked: dict[str, Question] = {}
    splits: list[list[Question]] = []
    draws = 0
    for split, wanted in (("val", val_size), ("train", size)):
        # A task draws question i from the seed plus i: consecutive seeds would give nearly the same questions.
        split_seed = Random(f"{seed} {split} {task}").getrandbits(31)
        data_set = create_dataset(task, seed=split_seed, size=DRAWS_PER_QUESTION * wanted, **config)
        before = len(asked)
        for question in _questions(data_set, task):
            asked.setdefault(question.text, question)
            draws += 1
            if len(asked) - before == wanted:
                break
        splits.append(list(asked.values())[before:])
    val, train = splits
    return Drawn(data_set.category, train, val, draws)


def _questions(data_set: Any, task: str) -> Iterator[Question]:
    for number in range(data_set.size):
        try:
            entry = data_set[number]
        except Exception as error:  # a task may raise anything
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise ValueError(f"{task}: it fails to generate a question ({reason}); change its --config") from error
        difficulty = entry_json.dumps(entry["metadata"].get("difficulty"))
        yield Question(entry["question"], entry["answer"] or "", entry_json.dumps(entry), difficulty)
