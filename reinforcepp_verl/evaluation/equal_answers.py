r"""Groups answers by value for majority votes: `\frac12` and `0.5` are one vote."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from reinforcepp_verl.config.math_reward_options import MathRewardOptions
from reinforcepp_verl.rewards.math import verify_answer

OPTIONS = MathRewardOptions()


def by_value(answers: Sequence[str], correct: Sequence[bool]) -> list[str]:
    """Replace every answer to a question by the first one, in sorted order, that has the same value; "" stays.

    Values are compared as the math reward compares an answer with a ground truth. A correct and a wrong answer differ.
    """
    right = {answer for answer, is_right in zip(answers, correct, strict=True) if is_right}
    representatives: list[str] = []
    first = {"": ""}
    for answer in sorted(set(answers) - {""}):
        same_grade = (known for known in representatives if (known in right) == (answer in right))
        first[answer] = next((known for known in same_grade if _equal(known, answer)), answer)
        if first[answer] == answer:
            representatives.append(answer)
    return [first[answer] for answer in answers]


@lru_cache(maxsize=65536)  # questions share wrong answers, and compared runs share all
def _equal(known: str, answer: str) -> bool:
    return verify_answer(answer, known, OPTIONS).correct
