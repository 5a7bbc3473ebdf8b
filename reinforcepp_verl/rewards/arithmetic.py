"""Scores an addition answer: all or nothing, by comparing text. Point verl's `reward.custom_reward_function` here."""

from __future__ import annotations

import re
from typing import Any

_SPECIAL_TOKENS_AT_AN_END = re.compile(r"^(?:<[a-z]+>)+|(?:<[a-z]+>)+$")
_END = "<eos>"


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: dict[str, Any] | None = None, **_: Any
) -> dict[str, float | str]:
    """Give 1.0 when the text before the end of sequence is exactly the ground truth, else 0.0.

    verl averages `acc` over validation and keeps `pred` for its rollout dumps.
    """
    pred = _SPECIAL_TOKENS_AT_AN_END.sub("", solution_str.split(_END, 1)[0].strip()).strip()
    correct = float(pred == str(ground_truth).strip())
    return {"score": correct, "acc": correct, "pred": pred}
