"""Generates the two-digit addition task: questions as parquet, a character tokenizer and a warm-started model."""

from __future__ import annotations

from itertools import product, starmap
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from reinforcepp_verl.tasks import arithmetic_model, question_files, small_tokenizer
from reinforcepp_verl.tasks.arithmetic_model import AdditionWarmStart
from reinforcepp_verl.tasks.arithmetic_question import Addition
from reinforcepp_verl.tasks.task_folder import Manifest, ToyTask
from reinforcepp_verl.tasks.warm_start import Progress

DATA_SOURCE = "reinforcepp/arithmetic"
VALIDATION_QUESTIONS = 512


def split_questions(seed: int) -> tuple[list[Addition], list[Addition]]:
    """Shuffle all 8100 questions and return the training and the validation questions."""
    two_digits = range(10, 100)
    return question_files.split(starmap(Addition, product(two_digits, two_digits)), VALIDATION_QUESTIONS, seed)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer of the questions and answers."""
    return small_tokenizer.of_characters("0123456789+=")


def _make(folder: Path, seed: int, settings: AdditionWarmStart, progress: Progress | None) -> Manifest:
    train, val = split_questions(seed)
    tokenizer = build_tokenizer()
    model = arithmetic_model.train(train, tokenizer, seed=seed, settings=settings, progress=progress)
    accuracy = arithmetic_model.measure(model, tokenizer, val)
    return question_files.write(folder, DATA_SOURCE, train, val, model, tokenizer, accuracy)


TASK = ToyTask(
    product="reinforcepp-arithmetic",
    version=1,
    title="two-digit addition",
    doing="teaching a small model to add",
    contents=frozenset({"train.parquet", "val.parquet", "model", "manifest.json"}),
    settings=AdditionWarmStart,
    make=_make,
    summary=question_files.summary,
)
