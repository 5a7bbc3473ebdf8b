"""Generates the two-digit addition task: questions as parquet, a character tokenizer and a warm-started model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from reinforcepp_verl.tasks import arithmetic_model, character_tokenizer
from reinforcepp_verl.tasks.arithmetic_model import AdditionWarmStart
from reinforcepp_verl.tasks.arithmetic_question import Addition
from reinforcepp_verl.tasks.task_folder import Manifest, make_once, show, write_questions
from reinforcepp_verl.tasks.warm_start import Progress

DATA_SOURCE = "reinforcepp/arithmetic"
VALIDATION_QUESTIONS = 512
PRODUCT, VERSION = "reinforcepp-arithmetic", 1
CONTENTS = frozenset({"train.parquet", "val.parquet", "model", "manifest.json"})


def split_questions(seed: int) -> tuple[list[Addition], list[Addition]]:
    """Shuffle all 8100 questions and return the training and the validation questions."""
    questions = [Addition(left, right) for left in range(10, 100) for right in range(10, 100)]
    random.Random(seed).shuffle(questions)
    return questions[VALIDATION_QUESTIONS:], questions[:VALIDATION_QUESTIONS]


def write_parquet(questions: Sequence[Addition], split: str, path: Path) -> None:
    """Write the questions in verl's schema; the same questions give the same bytes."""
    write_questions(DATA_SOURCE, [(question.messages, question.answer) for question in questions], split, path)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer of the questions and answers."""
    return character_tokenizer.build("0123456789+=")


def prepare(
    out: Path,
    seed: int = 1,
    *,
    force: bool = False,
    settings: AdditionWarmStart | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Create OUT/{train.parquet,val.parquet,model,manifest.json} unless it exists, and return the manifest."""
    settings = settings or AdditionWarmStart()
    identity = {"product": PRODUCT, "version": VERSION, "seed": seed, "warm_start": asdict(settings)}
    return make_once(out, identity, CONTENTS, lambda folder: _make(folder, seed, settings, progress), force=force)


def prepare_arithmetic_command(out: Path, seed: int = 1, force: bool = False) -> None:
    """Run `prepare` in a terminal: a progress bar, then a summary table."""
    show(
        f"two-digit addition in {out}",
        "teaching a small model to add",
        AdditionWarmStart().steps,
        lambda progress: prepare(out, seed, force=force, progress=progress),
        _summary,
    )


def _make(folder: Path, seed: int, settings: AdditionWarmStart, progress: Progress | None) -> Manifest:
    """Write everything into the new folder, and return the facts for the manifest."""
    train, val = split_questions(seed)
    write_parquet(train, "train", folder / "train.parquet")
    write_parquet(val, "val", folder / "val.parquet")
    tokenizer = build_tokenizer()
    model = arithmetic_model.train(train, tokenizer, seed=seed, settings=settings, progress=progress)
    tokenizer.save_pretrained(folder / "model")
    model.save_pretrained(folder / "model")
    accuracy = asdict(arithmetic_model.measure(model, tokenizer, val))
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
