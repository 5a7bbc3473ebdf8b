"""Generates the running sums task, whose steps are scored: questions as parquet, a tokenizer, a warm-started model."""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from reinforcepp_verl.tasks import running_sums_model, small_tokenizer
from reinforcepp_verl.tasks.question_files import facts, save_model, summary, write_questions
from reinforcepp_verl.tasks.running_sums_model import RunningSumsWarmStart
from reinforcepp_verl.tasks.running_sums_question import RunningSums
from reinforcepp_verl.tasks.task_folder import Manifest, ToyTask
from reinforcepp_verl.tasks.warm_start import Progress

DATA_SOURCE = "reinforcepp/running_sums"
NUMBERS = 4
VALIDATION_QUESTIONS = 512


def split_questions(seed: int) -> tuple[list[RunningSums], list[RunningSums]]:
    """Shuffle all 6561 questions and return the training and the validation questions."""
    questions = [RunningSums(numbers) for numbers in product(range(1, 10), repeat=NUMBERS)]
    random.Random(seed).shuffle(questions)
    return questions[VALIDATION_QUESTIONS:], questions[:VALIDATION_QUESTIONS]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer of the questions and answers."""
    return small_tokenizer.of_characters("0123456789+=;")


def _make(folder: Path, seed: int, settings: RunningSumsWarmStart, progress: Progress | None) -> Manifest:
    train, val = split_questions(seed)
    for split, questions in (("train", train), ("val", val)):
        write_questions(DATA_SOURCE, questions, split, folder)
    tokenizer = build_tokenizer()
    model = running_sums_model.train(train, tokenizer, seed=seed, settings=settings, progress=progress)
    save_model(model, tokenizer, folder / "model")
    return facts(train, val, model, running_sums_model.measure(model, tokenizer, val))


TASK = ToyTask(
    product="reinforcepp-running-sums",
    version=1,
    title="running sums",
    doing="teaching a small model to add up",
    contents=frozenset({"train.parquet", "val.parquet", "model", "manifest.json"}),
    settings=RunningSumsWarmStart,
    make=_make,
    summary=summary,
)
