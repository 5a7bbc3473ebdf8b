"""What the tasks with one model write and say: questions with one right answer, the model, its accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from reinforcepp_verl.tasks.task_folder import Manifest
from reinforcepp_verl.tasks.warm_start import Accuracy


class Asked(Protocol):
    """A question."""

    @property
    def messages(self) -> list[dict[str, str]]:
        """The chat of its prompt."""

    @property
    def answer(self) -> str:
        """The right answer."""


def write_questions(data_source: str, questions: Sequence[Asked], split: str, folder: Path) -> None:
    """Write FOLDER/SPLIT.parquet in verl's schema; the same questions give the same bytes."""
    rows = [
        {
            "data_source": data_source,
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


def facts(train: Sequence[object], val: Sequence[object], model: PreTrainedModel, accuracy: Accuracy) -> Manifest:
    """Return what the manifest says of questions and model."""
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
    """Return `facts` as rows of a table; `bound` comes before the accuracies."""
    accuracy = manifest["val_accuracy"]
    measured = {f"validation accuracy, {name}": f"{bound}{accuracy[name]:.1%}" for name in ("sampled", "greedy")}
    return {**counts(manifest), **measured}
