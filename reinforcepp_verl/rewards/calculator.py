"""Scores the last turn of a session with a calculator as 0 or 1. For verl's `reward.custom_reward_function`."""

from __future__ import annotations

import re
from typing import Any

# At the end: a number in the middle is one that the tool or the model wrote in an earlier turn.
_ANSWER = re.compile(r"#### (-?\d+)\s*$")


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: dict[str, Any] | None = None, **_: Any
) -> dict[str, float | str]:
    """Return 1.0 if the session ends with `#### ` and the ground truth, else 0.0.

    `solution_str` is the whole session after the question, with what the tool said. verl averages `acc` over validation
    and keeps `pred` for its rollout dumps.
    """
    found = _ANSWER.search(solution_str)
    pred = found[1] if found else ""
    correct = float(pred == str(ground_truth))
    return {"score": correct, "acc": correct, "pred": pred}
