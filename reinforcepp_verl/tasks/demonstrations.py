"""Demonstrations for a chat model from a prepared task: right answers, and for some questions those of others.

A model that learns from them knows the task, but often answers wrongly, which reinforcement learning can improve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from reinforcepp_verl.data.rows import Message, Row, truths
from reinforcepp_verl.tasks.warm_start import next_tokens

FORMS: Mapping[str, str] = {r"\boxed": r"\boxed{%s}", "####": "#### %s", "Answer:": "Answer: %s"}
"""What a prompt says to ask for a form of the answer, and the answer in this form; without any it is bare."""
TRAIN_FILE, VALIDATION_FILES = "train.parquet", ("val.parquet", "test.parquet")


@dataclass(frozen=True)
class Question:
    """The chat of a prompt, and its right answer as the reward reads it."""

    chat: list[Message]
    answer: str


@dataclass(frozen=True)
class PreparedTask:
    """The questions of a folder that `reinforcepp prepare` has written."""

    folder: Path
    train: list[Question]
    val: list[Question]


def read_task(name: str) -> PreparedTask:
    """Read the task in a folder, or in data/NAME.

    Raises:
        ValueError: there is no such task, or it has questions without an answer
    """
    folder = Path(name) if Path(name).is_dir() else Path("data", name)
    val = next((folder / file for file in VALIDATION_FILES if (folder / file).is_file()), None)
    if val is None or not (folder / TRAIN_FILE).is_file():
        raise ValueError(
            f"--warm-start {name}: {folder} has no {TRAIN_FILE} and {' or '.join(VALIDATION_FILES)}; run `reinforcepp "
            f"prepare {name}` first, or name the folder of a task"
        )
    return PreparedTask(folder, _questions(folder / TRAIN_FILE), _questions(val))


def _questions(file: Path) -> list[Question]:
    return [_question(file, row) for row in pq.read_table(file).to_pylist()]


def _question(file: Path, row: Row) -> Question:
    right = truths(row) if row.get("reward_model") else []
    if not (right and isinstance(right[0], str)):
        raise ValueError(f"--warm-start: {file} has a question without an answer (reward_model.ground_truth)")
    asked = "\n".join(message["content"] for message in row["prompt"])
    form = next((form for mark, form in FORMS.items() if mark in asked), "%s")
    return Question(row["prompt"], form % right[0])


class Demonstrations:
    """Draws questions and answers them, the share `wrong` of them with the answer of another question."""

    def __init__(self, questions: Sequence[Question], tokenizer: PreTrainedTokenizerFast, pad: int) -> None:
        self._questions, self._tokenizer, self._pad = questions, tokenizer, pad

    def batch(self, size: int, wrong: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return `size` demonstrations, as `encode` does."""
        asked, others = torch.randint(len(self._questions), (2, size), generator=generator).tolist()
        errs = (torch.rand(size, generator=generator) < wrong).tolist()
        drawn = [
            replace(self._questions[own], answer=self._questions[other if err else own].answer)
            for own, other, err in zip(asked, others, errs, strict=True)
        ]
        return self.encode(drawn)

    def encode(self, questions: Sequence[Question]) -> tuple[Tensor, Tensor]:
        """Return chats with answers as tokens `(N, T)`, and each position's next token of the answer, or padding."""
        prompts = [
            self._tokenizer.apply_chat_template(question.chat, tokenize=False, add_generation_prompt=True)
            for question in questions
        ]
        answers = [question.answer for question in questions]
        return next_tokens(self._ids(prompts), self._ids(answers), int(self._tokenizer.eos_token_id), self._pad)

    def _ids(self, texts: list[str]) -> list[list[int]]:
        return self._tokenizer(texts, add_special_tokens=False)["input_ids"]
