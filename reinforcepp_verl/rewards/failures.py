"""Wraps a reward function so that its exceptions become scored rows, and flags such rows."""

from __future__ import annotations

import inspect
import itertools
import logging
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

from reinforcepp_verl.rewards.step_scores import token_scores_of
from reinforcepp_verl.rewards.token_scores import STEP_SCORES_KEY, TOKEN_SCORES_KEY, checked_token_scores

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

ERROR_KEY, TIMEOUT_KEY, NO_ANSWER_KEY = "reward_error", "reward_timeout", "reward_no_answer"
"""Flags added to every row, 1.0 or 0.0: it could not be scored; because of a time limit; it has no answer."""
TRUNCATED_KEY = "response_truncated"
"""Flag added by the reward manager: all allowed tokens were used, and the last one is not the end token."""
TRACEBACKS_SHOWN = 3
"""Per scoring process."""
MESSAGE_CHARS = 200
_FAILURES = ("timeout", "crashed", "memory")
EXCEPTION_PREFIX = "error: "
NO_GROUND_TRUTH, FAULTY_GROUND_TRUTH = "no ground truth", "ground truth "

# User code may raise anything, and a library that calls sys.exit() would end verl's reward worker.
_USER_ERRORS = (Exception, SystemExit)


def is_faulty_ground_truth(reported: str) -> bool:
    """Return True if the ground truth is the reason: every answer to its prompt would score as wrong."""
    return reported == NO_GROUND_TRUTH or reported.startswith(FAULTY_GROUND_TRUTH)


def error_flags(reported: str) -> dict[str, float]:
    """Interpret the `error` returned by a reward function; unknown values are left to the function and do not count."""
    failed = reported in _FAILURES or reported.startswith(EXCEPTION_PREFIX) or is_faulty_ground_truth(reported)
    return {
        ERROR_KEY: float(failed),
        TIMEOUT_KEY: float(reported == "timeout"),
        NO_ANSWER_KEY: float(reported == "no answer"),
    }


class SafeRewardFunction:
    """Calls a reward function and returns `error_score` for an answer that it raises on.

    Such a row has the keys that the function has returned so far in this process, and `always`: 0 for numbers, "" for
    text, None for the rest. For verl a missing key is None, but the key that it filters groups by must be in every row.
    `token_scores_refused` is the reason why the run cannot use scores of tokens; `tokenizer` places those of steps.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        error_score: float,
        always: Iterable[str] = (),
        token_scores_refused: str | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        self._function = function
        self._error_score = error_score
        self._empty: dict[str, Any] = dict.fromkeys(always, 0.0)
        self._token_scores_refused = token_scores_refused
        self._tokenizer = tokenizer
        self._failures = itertools.count()

    def wrapped(self) -> Callable[..., Any]:
        """Return a function that never raises, async if the reward function is, because verl inspects that."""
        function = self._function

        async def score_async(**given: Any) -> dict[str, Any]:
            try:
                return self._row(await function(**given), given)
            except _USER_ERRORS as error:
                return self._failed_row(error, given)

        def score(**given: Any) -> dict[str, Any]:
            try:
                return self._row(function(**given), given)
            except _USER_ERRORS as error:
                return self._failed_row(error, given)

        return score_async if inspect.iscoroutinefunction(function) else score

    def _row(self, result: Any, given: Mapping[str, Any]) -> dict[str, Any]:
        """Complete a returned row; a bare number is the score and, as in verl, `acc`."""
        row = dict(result) if isinstance(result, Mapping) else {"score": result, "acc": result}
        kinds = [key for key in (STEP_SCORES_KEY, TOKEN_SCORES_KEY) if row.get(key) is not None]
        if kinds:
            self._place_scores(row, kinds, given)
        elif "score" not in row:
            raise TypeError(f"the reward function returned a dict without score, only with {', '.join(map(str, row))}")
        row.pop(STEP_SCORES_KEY, None)
        row["score"] = _number(row["score"])
        reported = row.get("error")
        row |= error_flags(reported) if isinstance(reported, str) else {ERROR_KEY: 0.0, TIMEOUT_KEY: 0.0}
        self._empty = self._empty | {key: _empty(value) for key, value in row.items()}
        return row

    def _place_scores(self, row: dict[str, Any], kinds: list[str], given: Mapping[str, Any]) -> None:
        """Set `token_scores`, also from `step_scores`; their sum is the score of the answer."""
        if self._token_scores_refused is not None:
            raise ValueError(f"the reward function returned {kinds[0]}: {self._token_scores_refused}")
        if "score" in row:
            kinds = ["score", *kinds]
        if len(kinds) > 1:
            raise ValueError(f"the reward function returned {' and '.join(kinds)}: return one of them")
        ids = given["extra_info"]["response_ids"]
        if kinds == [STEP_SCORES_KEY]:
            pairs = token_scores_of(row[STEP_SCORES_KEY], given["solution_str"], ids, self._tokenizer)
        else:
            pairs = checked_token_scores(row[TOKEN_SCORES_KEY], len(ids))
        row |= {TOKEN_SCORES_KEY: pairs, "score": sum(score for _, score in pairs)}

    def _failed_row(self, error: BaseException, given: Mapping[str, Any]) -> dict[str, Any]:
        if next(self._failures) < TRACEBACKS_SHOWN:
            index = (given["extra_info"] or {}).get("index")
            place = f"data_source {given['data_source']}, index {index}"
            logger.error("the reward function failed on an answer to %s", place, exc_info=error)
        message = " ".join(f"{type(error).__name__}: {error}".split())
        failure = {"error": EXCEPTION_PREFIX + message[:MESSAGE_CHARS], "score": self._error_score}
        return self._empty | failure | {ERROR_KEY: 1.0, TIMEOUT_KEY: float(isinstance(error, TimeoutError))}


def _number(score: Any) -> float:
    """Convert a score; NaN and infinity are kept and handled by `algorithm.reinforcepp.nonfinite`."""
    if score is None or isinstance(score, str | bytes):
        raise TypeError(f"the reward function returned {score!r} as the score, which is not a number")
    return float(score)


def _empty(value: Any) -> Any:
    if isinstance(value, Real):
        return 0.0
    return "" if isinstance(value, str) else None
