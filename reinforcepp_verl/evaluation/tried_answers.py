"""Answers from a JSONL file, and what a reward says about them (`reinforcepp reward try`)."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from reinforcepp_verl.common.json_text import objects
from reinforcepp_verl.rewards.failures import ERROR_KEY, NO_ANSWER_KEY, TIMEOUT_KEY, TRUNCATED_KEY
from reinforcepp_verl.training_samples.show import one_line

ANSWER, TRUTH, SOURCE, EXTRA, RECORDED = "answer", "ground_truth", "data_source", "extra_info", "score"
_NAMES = {ANSWER: (ANSWER, "output"), TRUTH: (TRUTH, "gts"), SOURCE: (SOURCE,), EXTRA: (EXTRA,), RECORDED: (RECORDED,)}
"""The keys of a line; the second ones are those of verl's validation files."""
_NOT_SHOWN = {RECORDED, SOURCE, ERROR_KEY, TIMEOUT_KEY, NO_ANSWER_KEY, TRUNCATED_KEY}
SAME = 1e-6
"""Scores that differ by a smaller share are the same: verl writes some as float32."""
FIX = f"write one JSON object per line, with {ANSWER} and {TRUTH}"


@dataclass(frozen=True)
class TriedAnswer:
    """An answer with what a reward function gets beside it, and the score that the file has for it, if any."""

    line: int
    answer: str
    ground_truth: Any
    data_source: str
    extra_info: Mapping[str, Any]
    recorded: float | None


@dataclass(frozen=True)
class Verdict:
    """What the reward manager returned for an answer."""

    tried: TriedAnswer
    returned: Mapping[str, Any]

    @property
    def score(self) -> float:
        return float(self.returned["score"])

    @property
    def changed(self) -> bool:
        """True if the file has another score."""
        recorded = self.tried.recorded
        return recorded is not None and not math.isclose(recorded, self.score, rel_tol=SAME, abs_tol=SAME)


def read_answers(file: Path) -> list[TriedAnswer]:
    """Read a file with one JSON object per line.

    Raises:
        ValueError: a line is not one, or has no answer or no ground truth; the message has the line and the fix
    """
    answers = [_read(f"{file}, line {number}", number, found) for number, found in objects(file, FIX)]
    if not answers:
        raise ValueError(f"{file}: no line in it; {FIX}")
    return answers


def _read(place: str, number: int, found: Mapping[str, Any]) -> TriedAnswer:
    given = {name: next((found[key] for key in names if key in found), None) for name, names in _NAMES.items()}
    answer, extra, recorded = given[ANSWER], given[EXTRA] or {}, given[RECORDED]
    if not isinstance(answer, str):
        raise ValueError(f"{place}: has no text as {ANSWER} (or output, as in verl's validation files); add it")
    if given[TRUTH] is None:
        raise ValueError(f"{place}: has no {TRUTH} (or gts, as in verl's validation files); add it")
    if not isinstance(extra, dict):
        raise ValueError(f"{place}: {EXTRA} is not an object; write a JSON object")
    return TriedAnswer(
        line=number,
        answer=answer,
        ground_truth=given[TRUTH],
        data_source=str(given[SOURCE] or "unknown"),
        extra_info=extra,
        recorded=float(recorded) if isinstance(recorded, int | float) and not isinstance(recorded, bool) else None,
    )


def shown(verdict: Verdict, width: int) -> Iterator[str]:
    """Yield the score with all that the function returned, the ground truth and the answer."""
    tried = verdict.tried
    was = f" (in the file {tried.recorded:.4g})" if verdict.changed else ""
    facts = [f"{name} {_fact(content)}" for name, content in verdict.returned.items() if name not in _NOT_SHOWN]
    yield one_line(", ".join([f"line {tried.line}: score {verdict.score:.4g}{was}", *facts]), width)
    for name, text in (("ground truth", tried.ground_truth), ("answer", tried.answer)):
        yield f"  {name:<14}{one_line(str(text), width - 16)}"


def _fact(content: Any) -> str:
    if isinstance(content, float):
        return f"{content:.4g}"
    return one_line(content, 80) if isinstance(content, str) else json.dumps(content, default=str)


def summary(verdicts: Sequence[Verdict]) -> dict[str, str]:
    """Return the rows of a table about all answers."""
    scores = [verdict.score for verdict in verdicts if math.isfinite(verdict.score)]
    accuracies = [
        verdict.returned["acc"] for verdict in verdicts if isinstance(verdict.returned.get("acc"), int | float)
    ]
    errors = Counter(one_line(str(v.returned["error"]), 60) for v in verdicts if v.returned.get("error"))
    rows = {"answers": str(len(verdicts)), "mean score": f"{fmean(scores):.4g}" if scores else "-"}
    if accuracies:
        rows["mean acc"] = f"{fmean(accuracies):.4g}"
    if any(verdict.tried.recorded is not None for verdict in verdicts):
        rows["other score in the file"] = str(sum(verdict.changed for verdict in verdicts))
    return rows | {reason: str(count) for reason, count in errors.most_common(10)}
