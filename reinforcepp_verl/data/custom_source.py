"""A user's own questions: the columns, the name and the origin are options instead of an entry in the table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from reinforcepp_verl.common.wording import did_you_mean
from reinforcepp_verl.data.columns import named
from reinforcepp_verl.data.source_kinds import TEST, TRAIN, Questions

TASK = "custom"


@dataclass(frozen=True, kw_only=True)
class CustomQuestions(Questions):
    """Questions whose columns were named with --question and --answer."""

    def fitted(self, origin: str, raw: dict[str, Any]) -> CustomQuestions:
        """Return this source; refuse a path that the first row does not have."""
        for option, path in (("--question", self.question), ("--answer", self.answer)):
            if _is_missing(raw, path):
                there = list(_paths(raw))
                raise ValueError(
                    f"{option}: {origin} has no column {path}{did_you_mean(path, there)}; set {option} to one of "
                    f"{named(there)}"
                )
        return self


def custom_source(
    origin: str | None, name: str = TASK, question: str = "question", answer: str = "answer"
) -> CustomQuestions:
    """Return the source that the options describe."""
    if origin is None:
        raise ValueError("custom needs --source: a file, a folder or an id on the Hugging Face hub; add it")
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"--name is {name!r}: use letters, digits, `_`, `-` and `.`, because it also names the folder")
    for option, path in (("--question", question), ("--answer", answer)):
        if not path.strip():
            raise ValueError(f"{option} is empty: set it to the name of a column")
    return CustomQuestions(
        name=TASK,
        about="questions of your own",
        hub=origin,
        splits={TRAIN: ("train",), TEST: ("test", "validation", "val", "dev")},
        data_source=name,
        ability=TASK,
        question=question,
        answer=answer,
    )


def _is_missing(raw: dict[str, Any], path: str) -> bool:
    """Return True if no row can have this path; what is null or an empty list here may have it in other rows."""
    at: Any = raw if path not in raw else None
    for key in path.split("."):
        if isinstance(at, list) and key.isdecimal():
            at = at[int(key)] if int(key) < len(at) else None
        elif isinstance(at, dict) and key in at:
            at = at[key]
        else:
            return at is not None
    return False


def _paths(raw: Any, prefix: str = "") -> Iterator[str]:
    """Yield the paths of a row that lead to a value."""
    for key, found in raw.items():
        if isinstance(found, dict) and found:
            yield from _paths(found, f"{prefix}{key}.")
        elif isinstance(found, list) and found and isinstance(found[0], dict):
            yield from _paths(found[0], f"{prefix}{key}.0.")
        else:
            yield f"{prefix}{key}"
