"""Scores an addition answer as 0 or 1 by comparing text. For verl's `reward.custom_reward_function`."""

from __future__ import annotations

import re
from typing import Any

_SPECIAL_TOKENS_AT_AN_END = re.compile(r"^(?:<[a-z]+>)+|(?:<[a-z]+>)+$")
_END = "<eos>"


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: dict[str, Any] | None = None, **_: Any
) -> dict[str, float | str]:
    """Return 1.0 if the text before the end of sequence equals the ground truth, else 0.0.

    verl averages `acc` over validation and keeps `pred` for its rollout dumps.
    """
    pred = _SPECIAL_TOKENS_AT_AN_END.sub("", solution_str.split(_END, 1)[0].strip()).strip()
    correct = float(pred == str(ground_truth).strip())
    return {"score": correct, "acc": correct, "pred": pred}
