"""One line of a file of scored answers: which keys are read, and what their values mean."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from reprlib import repr as short
from typing import Any

TEXT = ("question", "input")
TRUTH = ("gts", "ground_truth")
CORRECT = ("acc", "correct", "score")
ANSWER = ("pred", "answer")
SOURCE = ("data_source",)
UNNAMED = "unknown"
"""verl's name for a missing data source."""

CORRECT_BY_VALUE = {1: True, 0: False, -1: False}
# verl's uid: prompt, session, and the number of the output, as a session may have several.
VERL_UID = re.compile(r"(.+)_(\d+)_(\d+)")


@dataclass(frozen=True)
class Sample:
    """One scored answer; `answer` is "" if none was found and None if the file has no answers."""

    correct: bool
    answer: str | None
    graded: bool = True


@dataclass(frozen=True)
class Record:
    """A line's sample and its origin: output number `output` of session `session` of `prompt`."""

    data_source: str
    text: str
    truth: str
    prompt: str
    session: int
    output: int
    sample: Sample


@dataclass(frozen=True)
class LineFormat:
    """The keys of a file's lines, taken from its first line; None for a missing optional key."""

    text: str
    correct: str
    truth: str | None
    answer: str | None
    source: str | None
    uid: str | None

    @classmethod
    def from_line(cls, line: dict[str, Any]) -> LineFormat:
        """Find the keys in the first line."""

        def first(names: tuple[str, ...]) -> str | None:
            return next((name for name in names if name in line), None)

        text, correct = first(TEXT), first(CORRECT)
        if text is None:
            raise ValueError(f"no {' or '.join(TEXT)}")
        if correct is None:
            raise ValueError(f"no {' or '.join(CORRECT)}")
        uid = "uid" if VERL_UID.fullmatch(str(line.get("uid"))) else None
        return cls(text, correct, first(TRUTH), first(ANSWER), first(SOURCE), uid)

    def read(self, line: dict[str, Any], number: int) -> Record:
        """Read a line; without verl's uid, the question identifies the prompt and every line is a session."""
        source = UNNAMED if self.source is None else _text(line, self.source)
        text = _text(line, self.text)
        truth = "" if self.truth is None else json.dumps(_value(line, self.truth), sort_keys=True)
        answer = None if self.answer is None else _answer(line, self.answer)
        sample = _sample(line, self.correct, answer)
        if self.uid is None:
            return Record(source, text, truth, json.dumps([text, truth]), number, 0, sample)
        uid = VERL_UID.fullmatch(_text(line, self.uid))
        if uid is None:
            raise ValueError(f"uid is {short(line[self.uid])}, not PROMPT_SESSION_OUTPUT as in the first line")
        return Record(source, text, truth, uid[1], int(uid[2]), int(uid[3]), sample)


def _value(line: dict[str, Any], key: str) -> Any:
    if key not in line:
        raise ValueError(f"no {key}, which the first line has")
    return line[key]


def _text(line: dict[str, Any], key: str) -> str:
    value = _value(line, key)
    if not isinstance(value, str):
        raise ValueError(f"{key} is {short(value)}, not text")
    return value


def _answer(line: dict[str, Any], key: str) -> str:
    value = _value(line, key)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{key} is {short(value)}, neither text nor a number")
    return str(value).strip()


def _sample(line: dict[str, Any], key: str, answer: str | None) -> Sample:
    grade = _value(line, key)
    if grade is None:
        return Sample(False, answer, graded=False)
    if not isinstance(grade, int | float) or grade not in CORRECT_BY_VALUE:
        advice = '; let the reward return "acc" as well' if key == "score" else ""
        raise ValueError(f"{key} is {short(grade)}: it must be 1 (correct), or 0 or -1 (wrong){advice}")
    return Sample(CORRECT_BY_VALUE[int(grade)], answer)
