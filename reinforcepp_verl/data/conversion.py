"""Converts a source's rows to verl's schema, and counts those that cannot be used."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import singledispatchmethod
from typing import Any

from reinforcepp_verl.data import columns
from reinforcepp_verl.data.loading import Split
from reinforcepp_verl.data.prompt_templates import Template
from reinforcepp_verl.data.rows import Message, Row, UnusableRowError
from reinforcepp_verl.data.source_kinds import Pairs, Questions, Source


@dataclass
class Conversion:
    """Converts the rows of one split, and counts the rows read and the unusable ones."""

    source: Source
    split: str
    template: Template
    read: int = 0
    unusable: Counter[str] = field(default_factory=Counter)
    first_unusable: tuple[int, dict[str, Any]] | None = None

    def rows(self, split: Split) -> Iterator[Row]:
        """Yield the converted rows; `extra_info.index` is the row number in the source."""
        for index, raw in enumerate(split.rows()):
            if index == 0:
                self.source = self.source.fitted(split.origin, raw)
            self.read += 1
            try:
                yield self._convert(self.source, index, raw)
            except UnusableRowError as error:
                self.unusable[str(error)] += 1
                self.first_unusable = self.first_unusable or (index, raw)

    def check(self, split: Split, limit: float) -> None:
        """Refuse a split without rows, or with a share of unusable rows above `limit`."""
        if self.read == 0:
            raise ValueError(f"{self.source.name}: {split.origin} has no rows; give another --source")
        count, share = self.unusable.total(), self.unusable.total() / self.read
        if self.first_unusable is None or (share <= limit and share < 1):
            return
        reasons = ", ".join(f"{times} × {reason}" for reason, times in self.unusable.most_common())
        index, raw = self.first_unusable
        allow = f", or allow more with --max-unusable {math.ceil(1000 * share) / 1000}" if share < 1 else ""
        raise ValueError(
            f"{self.source.name}: {count} of {self.read} rows of {split.origin} are unusable ({reasons}), more than "
            f"the limit of {limit:.1%}. The first is row {index}: {columns.short(raw)}. Correct the source{allow}"
        )

    @singledispatchmethod
    def _convert(self, source: Source, index: int, raw: dict[str, Any]) -> Row:
        raise TypeError(f"no conversion for {type(source).__name__}")

    @_convert.register
    def _(self, source: Questions, index: int, raw: dict[str, Any]) -> Row:
        head, tail = source.wrapping
        question = (
            columns.text(raw, source.question).strip().removeprefix(head.strip()).removesuffix(tail.strip()).strip()
        )
        truth = _truth(raw, source)
        if not question or not truth:
            raise UnusableRowError(f"empty {'answer' if question else 'question'}")
        return self._row(index, self.template.chat(question), question, {"style": "rule", "ground_truth": truth})

    @_convert.register
    def _(self, source: Pairs, index: int, raw: dict[str, Any]) -> Row:
        sides = [_side(raw, column, source) for column in (source.chosen, source.rejected)]
        prompt, rejected_prompt = (side[:-1] for side in sides)
        if prompt != rejected_prompt:
            raise UnusableRowError("chosen and rejected answer different prompts")
        if not prompt:
            prompt = _chat(columns.value(raw, source.prompt), source.prompt, "user")
        chosen, rejected = (side[-1:] for side in sides)
        if chosen == rejected:
            raise UnusableRowError("chosen and rejected are the same")
        if {chosen[0]["role"], rejected[0]["role"]} != {"assistant"}:
            raise UnusableRowError("the last message is not the assistant's")
        question = "\n".join(message["content"] for message in prompt)
        row = self._row(index, prompt, question, {"style": "model", "ground_truth": ""})
        return row | {"chosen": chosen, "rejected": rejected}

    def _row(self, index: int, prompt: list[Message], question: str, reward_model: dict[str, Any]) -> Row:
        return {
            "data_source": self.source.data_source,
            "prompt": prompt,
            "ability": self.source.ability,
            "reward_model": reward_model,
            "extra_info": {"split": self.split, "index": index, "question": question},
        }


def _truth(raw: dict[str, Any], source: Questions) -> str | list[str]:
    """Return the right answer, or the list of them that the source has."""
    found = columns.value(raw, source.answer)
    if not isinstance(found, list):
        return source.extract(columns.as_text(found, source.answer))
    truths = [source.extract(columns.as_text(answer, source.answer)) for answer in found]
    return truths if all(truths) else []


def _side(raw: dict[str, Any], column: str, source: Pairs) -> list[Message]:
    """Return one response of a pair, with its prompt if the column has it."""
    found = columns.value(raw, column)
    return _chat(source.parse(found) if source.parse and isinstance(found, str) else found, column, "assistant")


def _chat(found: Any, column: str, role: str) -> list[Message]:
    """Return the chat in a column; plain text becomes a single message of `role`."""
    messages = [{"role": role, "content": found}] if isinstance(found, str) else found
    if not isinstance(messages, list) or not messages:
        raise UnusableRowError(f"{column} is not a chat")
    chat = [
        {"role": columns.text(message, "role"), "content": columns.text(message, "content")} for message in messages
    ]
    if not all(message["content"].strip() for message in chat):
        raise UnusableRowError(f"empty message in {column}")
    return chat
