"""The rates of a batch, and when they end the run."""

import pytest

from reinforcepp_verl.config.reward_error_options import RewardErrorOptions
from reinforcepp_verl.integration.reward_errors import RewardErrorMonitor, RewardFailureError, validation_reward_infos

FINE = {"reward_error": 0.0, "reward_timeout": 0.0}
FAILED = {"reward_error": 1.0, "reward_timeout": 0.0, "error": "error: KeyError: 'verdict'"}


def batch(failed: int, answers: int) -> list[dict]:
    return [FAILED] * failed + [FINE] * (answers - failed)


def test_rates_are_shares_of_the_answers_with_the_flag():
    late = {"reward_error": 1.0, "reward_timeout": 1.0, "reward_no_answer": 0.0, "error": "timeout"}
    silent = {**FINE, "reward_no_answer": 1.0}
    cut = {**FINE, "response_truncated": 1.0}
    rates = RewardErrorMonitor(RewardErrorOptions(max_rate=1)).update([late, silent, FAILED, cut])
    assert rates == {
        "reward/error_rate": 0.5,
        "reward/timeout_rate": 0.25,
        "reward/no_answer_rate": 0.5,
        "response/truncated_ratio": 1.0,
    }


def test_rows_of_another_reward_manager_have_no_rates():
    assert RewardErrorMonitor(RewardErrorOptions()).update([{"acc": 1.0}, {"reward_error": None}]) == {}
    assert RewardErrorMonitor(RewardErrorOptions()).update([]) == {}


def test_the_run_stops_above_the_limit_and_names_the_fix():
    monitor = RewardErrorMonitor(RewardErrorOptions(max_rate=0.1))
    assert monitor.update(batch(10, 100))["reward/error_rate"] == 0.1
    with pytest.raises(RewardFailureError) as error:
        monitor.update(batch(11, 100))
    assert str(error.value) == (
        "11 of 100 answers could not be scored, more than reward_errors.max_rate=0.1 allows; the first: "
        "KeyError: 'verdict'; correct the reward function (reward.custom_reward_function); "
        "the log holds the first tracebacks"
    )


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        ("timeout", "timeout; the reward function exceeded a limit: see its options"),
        ("no ground truth", "no ground truth; correct the column reward_model.ground_truth"),
        ("ground truth too large: length", "length; correct the column reward_model.ground_truth"),
    ],
)
def test_the_kind_of_error_decides_the_fix(error, remedy):
    with pytest.raises(RewardFailureError, match=rf"reward_errors.max_rate=0.1 allows; the first: .*{remedy}"):
        RewardErrorMonitor(RewardErrorOptions()).update([{**FAILED, "error": error}] * 5)


def test_a_few_errors_stop_the_run_only_if_batch_after_batch_has_them():
    monitor = RewardErrorMonitor(RewardErrorOptions(max_rate=0.1, min_count=5))
    monitor.update(batch(2, 4))
    monitor.update(batch(2, 4))
    monitor.update(batch(0, 4))
    monitor.update(batch(4, 4))
    with pytest.raises(RewardFailureError, match="1 of 4"):
        monitor.update(batch(1, 4))


def test_a_limit_of_one_never_stops_and_a_limit_of_zero_at_the_first_count():
    RewardErrorMonitor(RewardErrorOptions(max_rate=1, min_count=1)).update(batch(9, 9))
    with pytest.raises(RewardFailureError):
        RewardErrorMonitor(RewardErrorOptions(max_rate=0, min_count=1)).update(batch(1, 999))
    RewardErrorMonitor(RewardErrorOptions(max_rate=0, min_count=1)).update(batch(0, 999))


def test_a_validation_has_the_same_flags_in_columns():
    columns = {"reward": [0.0, 1.0], "reward_error": [1.0, None], "error": ["crashed", None]}
    assert validation_reward_infos(columns) == [
        {"reward_error": 1.0, "error": "crashed"},
        {"reward_error": None, "error": None},
    ]
    assert validation_reward_infos({"reward": [0.0]}) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [({"max_rate": 1.5}, "max_rate is 1.5"), ({"min_count": 0}, "min_count is 0"), ({"score": float("inf")}, "is inf")],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RewardErrorOptions(**options)
