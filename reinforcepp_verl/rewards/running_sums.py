"""Scores running sums: `3+4+5=` asks for `7;12;`, each sum ended by a semicolon. For verl's custom reward function.

`compute_score` scores every step; `reward.custom_reward_function.name=outcome_score` scores the last sum only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_STEP = re.compile(r"[^;]*;|[^;]+$")
_SUM = re.compile(r"(0|[1-9][0-9]{0,8});")


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: dict[str, Any] | None = None, **_: Any
) -> dict[str, Any]:
    """Return a score for each step, at the semicolon that ends it; they sum to 1 for the right answer only.

    verl averages `acc`, 1 if the last sum is right, over validation and keeps `pred` for its rollout dumps.
    """
    steps, acc = list(_step_scores(solution_str, ground_truth)), _accuracy(solution_str, ground_truth)
    if not steps:
        return {"score": 0.0, "acc": acc, "pred": solution_str}
    return {"step_scores": steps, "acc": acc, "pred": solution_str}


def outcome_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: dict[str, Any] | None = None, **_: Any
) -> dict[str, Any]:
    """Return 1 if the last sum is right, else 0: one score for the answer."""
    acc = _accuracy(solution_str, ground_truth)
    return {"score": acc, "acc": acc, "pred": solution_str}


def _step_scores(text: str, truth: str) -> Iterator[tuple[int, float]]:
    """Yield for each step where it ends in the text, and its score.

    With n sums in the truth, a step scores 1/n if it adds the next number to the sum before it, be that right or wrong:
    each mistake costs once. A step that is unfinished or no number scores 0, one too many -1/n.
    """
    expected = _sums(truth)
    next_numbers = [after - before for before, after in zip([0, *expected], expected, strict=False)]
    before: int | None = 0
    for index, step in enumerate(_STEP.finditer(text)):
        found = _SUM.fullmatch(step[0])
        written = int(found[1]) if found else None
        if index >= len(expected):
            score = -1.0
        else:
            score = float(before is not None and written == before + next_numbers[index])
        yield step.end(), score / len(expected)
        before = written


def _accuracy(text: str, truth: str) -> float:
    """Return 1.0 if the text has as many sums as the truth, nothing else, and the same last one; else 0.0."""
    given, expected = _sums(text), _sums(truth)
    nothing_else = "".join(f"{number};" for number in given) == text
    return float(nothing_else and len(given) == len(expected) and given[-1] == expected[-1])


def _sums(text: str) -> list[int]:
    return [int(number) for number in _SUM.findall(text)]
