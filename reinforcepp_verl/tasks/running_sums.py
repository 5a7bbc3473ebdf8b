"""Generates the running sums task, whose steps are scored: questions as parquet, a tokenizer, a warm-started model."""

from __future__ import annotations

import random
from dataclasses import asdict
from itertools import product
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from reinforcepp_verl.tasks import character_tokenizer, running_sums_model
from reinforcepp_verl.tasks.running_sums_model import RunningSumsWarmStart
from reinforcepp_verl.tasks.running_sums_question import RunningSums
from reinforcepp_verl.tasks.task_folder import Manifest, make_once, show, write_questions
from reinforcepp_verl.tasks.warm_start import Progress

DATA_SOURCE = "reinforcepp/running_sums"
NUMBERS = 4
VALIDATION_QUESTIONS = 512
PRODUCT, VERSION = "reinforcepp-running-sums", 1
CONTENTS = frozenset({"train.parquet", "val.parquet", "model", "manifest.json"})


def split_questions(seed: int) -> tuple[list[RunningSums], list[RunningSums]]:
    """Shuffle all 6561 questions and return the training and the validation questions."""
    questions = [RunningSums(numbers) for numbers in product(range(1, 10), repeat=NUMBERS)]
    random.Random(seed).shuffle(questions)
    return questions[VALIDATION_QUESTIONS:], questions[:VALIDATION_QUESTIONS]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer of the questions and answers."""
    return character_tokenizer.build("0123456789+=;")


def prepare(
    out: Path,
    seed: int = 1,
    *,
    force: bool = False,
    settings: RunningSumsWarmStart | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Create OUT/{train.parquet,val.parquet,model,manifest.json} unless it exists, and return the manifest."""
    settings = settings or RunningSumsWarmStart()
    identity = {"product": PRODUCT, "version": VERSION, "seed": seed, "warm_start": asdict(settings)}
    return make_once(out, identity, CONTENTS, lambda folder: _make(folder, seed, settings, progress), force=force)


def prepare_running_sums_command(out: Path, seed: int = 1, force: bool = False) -> None:
    """Run `prepare` in a terminal: a progress bar, then a summary table."""
    show(
        f"running sums in {out}",
        "teaching a small model to add up",
        RunningSumsWarmStart().steps,
        lambda progress: prepare(out, seed, force=force, progress=progress),
        _summary,
    )


def _make(folder: Path, seed: int, settings: RunningSumsWarmStart, progress: Progress | None) -> Manifest:
    """Write everything into the new folder, and return the facts for the manifest."""
    train, val = split_questions(seed)
    for split, questions in (("train", train), ("val", val)):
        rows = [(question.messages, question.answer) for question in questions]
        write_questions(DATA_SOURCE, rows, split, folder / f"{split}.parquet")
    tokenizer = build_tokenizer()
    model = running_sums_model.train(train, tokenizer, seed=seed, settings=settings, progress=progress)
    tokenizer.save_pretrained(folder / "model")
    model.save_pretrained(folder / "model")
    accuracy = asdict(running_sums_model.measure(model, tokenizer, val))
    return {
        "train_questions": len(train),
        "val_questions": len(val),
        "parameters": model.num_parameters(),
        "val_accuracy": {name: round(value, 4) for name, value in accuracy.items()},
    }


def _summary(manifest: Manifest) -> dict[str, str]:
    """Return the manifest as rows of a table."""
    accuracy = manifest["val_accuracy"]
    return {
        "training questions": str(manifest["train_questions"]),
        "validation questions": str(manifest["val_questions"]),
        "model parameters": f"{manifest['parameters']:,}",
        "validation accuracy, sampled": f"{accuracy['sampled']:.1%}",
        "validation accuracy, greedy": f"{accuracy['greedy']:.1%}",
    }
