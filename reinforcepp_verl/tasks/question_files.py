"""What the tasks with one model write and say: questions with one right answer, the model, its accuracy."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from reinforcepp_verl.tasks.task_folder import Manifest
from reinforcepp_verl.tasks.warm_start import Accuracy

Question = TypeVar("Question")


class Asked(Protocol):
    """A question."""

    @property
    def messages(self) -> list[dict[str, str]]:
        """The chat of its prompt."""

    @property
    def answer(self) -> str:
        """The right answer."""


def split(questions: Iterable[Question], validation: int, seed: int) -> tuple[list[Question], list[Question]]:
    """Shuffle the questions and return those for training and those for validation."""
    shuffled = list(questions)
    random.Random(seed).shuffle(shuffled)
    return shuffled[validation:], shuffled[:validation]


def write_questions(
    data_source: str | Callable[[Any], str], questions: Sequence[Asked], split: str, folder: Path
) -> None:
    """Write FOLDER/SPLIT.parquet in verl's schema; the same questions give the same bytes.

    verl measures each data source by itself: it is a name, or a function that names that of a question.
    """
    rows = [
        {
            "data_source": data_source if isinstance(data_source, str) else data_source(question),
            "prompt": question.messages,
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": question.answer},
            "extra_info": {"split": split, "index": index},
        }
        for index, question in enumerate(questions)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a folder that transformers, verl and vLLM load."""
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


def write(
    folder: Path,
    data_source: str | Callable[[Any], str],
    train: Sequence[Asked],
    val: Sequence[Asked],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    accuracy: Accuracy,
) -> Manifest:
    """Write both files of questions and the model, and return what the manifest says of them."""
    write_questions(data_source, train, "train", folder)
    write_questions(data_source, val, "val", folder)
    save_model(model, tokenizer, folder / "model")
    return {
        "train_questions": len(train),
        "val_questions": len(val),
        "parameters": model.num_parameters(),
        "val_accuracy": {name: round(value, 4) for name, value in asdict(accuracy).items()},
    }


def counts(manifest: Manifest) -> dict[str, str]:
    """Return the numbers of questions and parameters as rows of a table."""
    return {
        "training questions": str(manifest["train_questions"]),
        "validation questions": str(manifest["val_questions"]),
        "model parameters": f"{manifest['parameters']:,}",
    }


def summary(manifest: Manifest, bound: str = "") -> dict[str, str]:
    """Return the manifest of such a task as rows of a table; `bound` comes before the accuracies."""
    accuracy = manifest["val_accuracy"]
    measured = {f"validation accuracy, {name}": f"{bound}{accuracy[name]:.1%}" for name in ("sampled", "greedy")}
    return {**counts(manifest), **measured}
