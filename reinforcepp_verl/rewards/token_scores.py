"""Checks the scores of single tokens that a reward function returns instead of one score for the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

TOKEN_SCORES_KEY = "token_scores"
STEP_SCORES_KEY = "step_scores"
"""The same by where steps end in the text: step_scores.py makes scores of tokens of them."""


def checked_token_scores(given: Any, response_tokens: int) -> list[tuple[int, float]]:
    """Return `token_scores` as pairs of a token of the answer, counted from 0, and its score.

    Raises:
        TypeError: it is not a list of such pairs
        ValueError: a token does not exist or has two scores, a score is not finite, or there is none
    """
    pairs = pairs_of_numbers(given, TOKEN_SCORES_KEY, "token")
    if not pairs:
        raise ValueError(f"{TOKEN_SCORES_KEY} is empty: return a score for at least one token, such as the last")
    tokens = [token for token, _ in pairs]
    if outside := [token for token in tokens if not 0 <= token < response_tokens]:
        raise ValueError(
            f"{TOKEN_SCORES_KEY} has a score for token {outside[0]}: the answer has tokens 0 to {response_tokens - 1}"
        )
    if twice := sorted({token for token in tokens if tokens.count(token) > 1}):
        raise ValueError(f"{TOKEN_SCORES_KEY} has two scores for token {twice[0]}: return their sum")
    return pairs


def pairs_of_numbers(given: Any, key: str, place: str) -> list[tuple[int, float]]:
    """Return the value of a key as pairs of a place (an integer) and a finite score.

    Raises:
        TypeError: it is not a list of such pairs
        ValueError: a score is not finite
    """
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        raise TypeError(f"{key} is {given!r}: return a list of [{place}, score]")
    return [_pair(entry, key, place) for entry in given]


def _pair(entry: Any, key: str, place: str) -> tuple[int, float]:
    if not isinstance(entry, Sequence) or len(entry) != 2:
        raise TypeError(f"{key} has the entry {entry!r}: each must be [{place}, score]")
    if not isinstance(entry[0], Integral) or not isinstance(entry[1], Real):
        raise TypeError(f"{key} has the entry {entry!r}: each must be an integer and a number")
    where, score = int(entry[0]), float(entry[1])
    if not math.isfinite(score):
        raise ValueError(f"{key} has the score {score} for {place} {where}: it must be finite")
    return where, score
