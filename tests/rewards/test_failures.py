"""What counts as a failure to score, and how much of it reaches the log."""

import logging

import pytest

from reinforcepp_verl.rewards.failures import MESSAGE_CHARS, TRACEBACKS_SHOWN, SafeRewardFunction, error_flags
from reinforcepp_verl.rewards.math import compute_score

GIVEN = {"data_source": "math", "solution_str": "", "ground_truth": "7", "extra_info": {"index": 12}}


@pytest.mark.parametrize(
    ("reported", "error", "timeout", "no_answer"),
    [
        ("", 0, 0, 0),
        ("no answer", 0, 0, 1),
        ("not parsed", 0, 0, 0),
        ("answer too large: digits", 0, 0, 0),
        ("no ground truth", 1, 0, 0),
        ("ground truth not parsed", 1, 0, 0),
        ("ground truth too large: length", 1, 0, 0),
        ("timeout", 1, 1, 0),
        ("crashed", 1, 0, 0),
        ("memory", 1, 0, 0),
        ("error: TypeError: x", 1, 0, 0),
    ],
)
def test_what_the_math_reward_reports(reported, error, timeout, no_answer):
    assert error_flags(reported) == {"reward_error": error, "reward_timeout": timeout, "reward_no_answer": no_answer}


def test_a_late_verdict_is_counted_and_keeps_the_functions_own_score():
    slow = r"\sum_{k=1}^{9999} \sum_{j=1}^{9999} \sin(k j)^{j}"
    score = SafeRewardFunction(compute_score, error_score=0.5).wrapped()
    row = score(**GIVEN | {"solution_str": rf"\boxed{{{slow}}}"}, time_limit_s=0.2, score_scale="plus_minus_one")
    assert (row["score"], row["error"], row["reward_error"], row["reward_timeout"]) == (-1.0, "timeout", 1.0, 1.0)
    row = score(**GIVEN | {"solution_str": "I do not know"})
    assert (row["reward_error"], row["reward_no_answer"]) == (0.0, 1.0)


def test_an_exception_for_a_time_limit_is_a_timeout_too():
    def slow(**_):
        raise TimeoutError("the judge took 30 s")

    row = SafeRewardFunction(slow, 0.0).wrapped()(**GIVEN)
    assert row == {
        "score": 0.0,
        "error": "error: TimeoutError: the judge took 30 s",
        "reward_error": 1.0,
        "reward_timeout": 1.0,
    }


def test_the_first_tracebacks_are_logged_with_their_place_and_no_more(caplog):
    def broken(**_):
        raise ValueError("x" * 999)

    score = SafeRewardFunction(broken, 0.0).wrapped()
    with caplog.at_level(logging.ERROR):
        rows = [score(**GIVEN) for _ in range(TRACEBACKS_SHOWN + 2)]
    assert len(caplog.records) == TRACEBACKS_SHOWN
    assert "data_source math, index 12" in caplog.text and "in broken" in caplog.text
    assert {len(row["error"]) for row in rows} == {len("error: ") + MESSAGE_CHARS}


def test_an_exit_in_the_function_does_not_end_the_process_that_scores():
    def leave(**_):
        raise SystemExit(2)

    assert SafeRewardFunction(leave, 0.0).wrapped()(**GIVEN)["error"] == "error: SystemExit: 2"


def test_what_ends_the_process_is_not_swallowed():
    def stop(**_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SafeRewardFunction(stop, 0.0).wrapped()(**GIVEN)
