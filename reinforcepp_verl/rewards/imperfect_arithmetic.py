"""Scores additions with the faults of real data: wrong verdicts, and questions whose answers all get the same.

For comparisons (`reinforcepp compare noisy_reward`, `mixed_difficulty`). `acc` is the true verdict, so that validation
measures what was learned.
"""

from __future__ import annotations

import hashlib
from typing import Any

from reinforcepp_verl.rewards import arithmetic


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict[str, Any] | None = None,
    flipped: float = 0.0,
    decided: float = 0.0,
    **_: Any,
) -> dict[str, float | str]:
    """Return the arithmetic task's verdict, with a score that is wrong for some.

    Args:
        data_source: as for rewards/arithmetic.py
        solution_str: the answer
        ground_truth: the sum
        extra_info: `index` and `split` name the question
        flipped: share of the answers whose score is the opposite; equal answers to a question have equal scores
        decided: share of the questions whose answers all get 1, or all 0, in equal parts: trivial and impossible ones

    Raises:
        ValueError: a share is not between 0 and 1
    """
    for name, given in (("flipped", flipped), ("decided", decided)):
        if not 0 <= given <= 1:
            raise ValueError(f"{name} is {given}: it is a share between 0 and 1")
    found = arithmetic.compute_score(data_source, solution_str, ground_truth)
    known = extra_info or {}
    question = f"{known.get('split')}/{known.get('index')}/{ground_truth}"
    if _uniform(question) < decided:
        return {**found, "score": float(_uniform(f"{question}/right") < 0.5)}
    if _uniform(f"{question}/{found['pred']}") < flipped:
        return {**found, "score": 1.0 - float(found["score"])}
    return found


def _uniform(text: str) -> float:
    """Return a number from 0 to 1 that is the same for a text in every process and every run."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") / 2**64
