"""Generates the sums by size: running sums of three to six numbers, a tokenizer, a warm-started model.

Each size is a data source of its own, so that validation shows what is learned of the hard ones.
"""

from __future__ import annotations

import random
from itertools import cycle, islice
from pathlib import Path

from reinforcepp_verl.tasks import question_files, sums_by_size_model
from reinforcepp_verl.tasks.running_sums_question import RunningSums
from reinforcepp_verl.tasks.running_sums_task import build_tokenizer
from reinforcepp_verl.tasks.sums_by_size_model import SumsBySizeWarmStart
from reinforcepp_verl.tasks.task_folder import Manifest, ToyTask
from reinforcepp_verl.tasks.warm_start import Progress

SIZES = range(3, 7)
TRAINING_QUESTIONS_PER_SIZE, VALIDATION_QUESTIONS_PER_SIZE = 4000, 64


def data_source(question: RunningSums) -> str:
    """Return the data source of questions of this size."""
    return f"reinforcepp/sums_of_{len(question.numbers)}"


def split_questions(seed: int) -> tuple[list[RunningSums], list[RunningSums]]:
    """Draw questions, as many of each size, and return those for training and those for validation.

    They are different, except that the few of the smallest size are repeated for training.
    """
    generator, train, val = random.Random(seed), list[RunningSums](), list[RunningSums]()
    for size in SIZES:
        wanted = min(9**size, TRAINING_QUESTIONS_PER_SIZE + VALIDATION_QUESTIONS_PER_SIZE)
        numbers = [_digits(code, size) for code in generator.sample(range(9**size), wanted)]
        val += map(RunningSums, numbers[:VALIDATION_QUESTIONS_PER_SIZE])
        others = islice(cycle(numbers[VALIDATION_QUESTIONS_PER_SIZE:]), TRAINING_QUESTIONS_PER_SIZE)
        train += map(RunningSums, others)
    generator.shuffle(train)
    return train, val


def _digits(code: int, size: int) -> tuple[int, ...]:
    """Return the question with this number: its digits to the base 9, each one more."""
    return tuple(code // 9**place % 9 + 1 for place in range(size))


def _make(folder: Path, seed: int, settings: SumsBySizeWarmStart, progress: Progress | None) -> Manifest:
    train, val = split_questions(seed)
    tokenizer = build_tokenizer()
    model = sums_by_size_model.train(train, tokenizer, seed=seed, settings=settings, progress=progress)
    accuracy = sums_by_size_model.measure(model, tokenizer, val)
    return question_files.write(folder, data_source, train, val, model, tokenizer, accuracy)


TASK = ToyTask(
    product="reinforcepp-sums-by-size",
    version=1,
    title="sums by size",
    doing="teaching a small model to add up",
    contents=frozenset({"train.parquet", "val.parquet", "model", "manifest.json"}),
    settings=SumsBySizeWarmStart,
    make=_make,
    summary=question_files.summary,
)
