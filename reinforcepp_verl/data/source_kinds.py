"""What a source of rows is: its origin, its columns, and the names of its rows in verl.

A column is a dotted path, `reward_model.ground_truth` or `prompt.0.content`. A split lists the candidate splits of the
source; the first one that exists is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from reinforcepp_verl.common.wording import did_you_mean
from reinforcepp_verl.data import answers, rows
from reinforcepp_verl.data.columns import named, short

TRAIN, TEST = "train", "test"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Origin of the rows, and their names in verl."""

    name: str
    about: str
    hub: str
    subset: str | None = None
    splits: Mapping[str, tuple[str, ...]]
    data_source: str
    ability: str
    schema: pa.Schema
    max_unusable: float = 0.01

    @property
    def layouts(self) -> tuple[tuple[str, ...], ...]:
        """The columns that every row must have; one of several choices."""
        raise NotImplementedError

    def fitted(self, origin: str, raw: dict[str, Any]) -> Source:
        """Return the source with the column names of its first row; refuse a row that has none of the layouts."""
        columns = [[path.partition(".")[0] for path in layout] for layout in self.layouts]
        missing = [[column for column in needed if column not in raw] for needed in columns]
        if [] in missing:
            return self._with_layout(self.layouts[missing.index([])])
        first = min(missing, key=len)[0]
        needs = ", or ".join(" and ".join(needed) for needed in columns)
        raise ValueError(
            f"{self.name}: {origin} has no column {first}{did_you_mean(first, raw)}; {self.name} needs {needs}, and "
            f"the source has {named(raw)}. Rename the column, or give another --source. Its first row: {short(raw)}"
        )

    def _with_layout(self, layout: tuple[str, ...]) -> Source:
        return self


@dataclass(frozen=True, kw_only=True)
class Questions(Source):
    """Questions with a right answer each, or several. `wrapping` is removed from both ends of a question.

    `also` are further pairs of names that the columns `question` and `answer` may have.
    """

    ability: str = "math"
    schema: pa.Schema = rows.QUESTIONS
    question: str = "problem"
    wrapping: tuple[str, str] = ("", "")
    answer: str = "answer"
    extract: Callable[[str], str] = answers.plain
    template: str = "boxed"
    also: tuple[tuple[str, str], ...] = ()

    @property
    def layouts(self) -> tuple[tuple[str, ...], ...]:
        """The columns that every row must have; one of several choices."""
        return (self.question, self.answer), *self.also

    def _with_layout(self, layout: tuple[str, ...]) -> Questions:
        question, answer = layout
        return replace(self, question=question, answer=answer)


@dataclass(frozen=True, kw_only=True)
class Pairs(Source):
    """Pairs of responses, one of them preferred: whole chats, or answers to the `prompt` column.

    `parse` reads a whole chat that is one text.
    """

    ability: str = "preference"
    schema: pa.Schema = rows.PAIRS
    prompt: str = "prompt"
    chosen: str = "chosen"
    rejected: str = "rejected"
    parse: Callable[[str], list[rows.Message]] | None = None

    @property
    def layouts(self) -> tuple[tuple[str, ...], ...]:
        """The columns that every row must have; one of several choices."""
        return ((self.chosen, self.rejected),)
