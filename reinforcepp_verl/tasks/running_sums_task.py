"""Generates the running sums task, whose steps are scored: questions as parquet, a tokenizer, a warm-started model."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from reinforcepp_verl.tasks import question_files, running_sums_model, small_tokenizer
from reinforcepp_verl.tasks.running_sums_model import RunningSumsWarmStart
from reinforcepp_verl.tasks.running_sums_question import RunningSums
from reinforcepp_verl.tasks.task_folder import Manifest, ToyTask
from reinforcepp_verl.tasks.warm_start import Progress

DATA_SOURCE = "reinforcepp/running_sums"
NUMBERS = 4
VALIDATION_QUESTIONS = 512


def split_questions(seed: int) -> tuple[list[RunningSums], list[RunningSums]]:
    """Shuffle all 6561 questions and return the training and the validation questions."""
    return question_files.split(map(RunningSums, product(range(1, 10), repeat=NUMBERS)), VALIDATION_QUESTIONS, seed)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer of the questions and answers."""
    return small_tokenizer.of_characters("0123456789+=;")


def _make(folder: Path, seed: int, settings: RunningSumsWarmStart, progress: Progress | None) -> Manifest:
    train, val = split_questions(seed)
    tokenizer = build_tokenizer()
    model = running_sums_model.train(train, tokenizer, seed=seed, settings=settings, progress=progress)
    accuracy = running_sums_model.measure(model, tokenizer, val)
    return question_files.write(folder, DATA_SOURCE, train, val, model, tokenizer, accuracy)


TASK = ToyTask(
    product="reinforcepp-running-sums",
    version=1,
    title="running sums",
    doing="teaching a small model to add up",
    contents=frozenset({"train.parquet", "val.parquet", "model", "manifest.json"}),
    settings=RunningSumsWarmStart,
    make=_make,
    summary=question_files.summary,
)
