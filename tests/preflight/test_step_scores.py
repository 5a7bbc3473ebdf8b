"""A reward function that scores steps needs our reward manager, our trainers and an estimator that reads places."""

from __future__ import annotations

import pytest

from reinforcepp_verl.preflight import step_scores

RECIPE = "+recipe=math_rlvr/running_sums"
FUNCTION = "reward.custom_reward_function"


@pytest.mark.parametrize("method", ["reinforcepp", "reinforcepp_baseline", "reinforce_reward_to_go", "remax", "ppo"])
def test_estimators_that_read_the_places_of_scores_have_no_warning(compose, method):
    assert step_scores.check(compose(RECIPE, f"+method={method}")) == []


@pytest.mark.parametrize("method", ["reinforce", "rloo", "raft", "grpo", "rloo_verl", "flash_reinforce"])
def test_estimators_that_add_them_up_have_one(compose, method):
    [warning] = step_scores.check(compose(RECIPE, f"+method={method}"))
    assert warning.name == "summed_steps"
    assert step_scores.check(compose(RECIPE, f"+method={method}", f"{FUNCTION}.name=outcome_score")) == []


@pytest.mark.parametrize(
    ("override", "fix"),
    [
        ("reward.reward_manager.name=naive", "set reward.reward_manager.name=reinforcepp"),
        ("trainer.v1.trainer_mode=colocate_async", "set trainer.v1.trainer_mode=reinforcepp_colocate_async"),
    ],
)
def test_what_cannot_place_them_is_refused(compose, override, fix):
    [error] = step_scores.check(compose(RECIPE, override))
    key, chosen = override.split("=")
    assert error.startswith(f"{key} is {chosen}") and error.endswith(fix)
    assert "the step_scores that compute_score of pkg://reinforcepp_verl.rewards.running_sums returns" in error
    assert step_scores.check(compose(RECIPE, override, f"{FUNCTION}.name=outcome_score")) == []


def test_a_function_of_a_users_file_is_read_too(compose, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def compute_score(**given):\n    return {'token_scores': [[0, 1.0]], 'acc': 1.0}\n")
    naive = "reward.reward_manager.name=naive"
    [error] = step_scores.check(compose(RECIPE, naive, f"{FUNCTION}.path={file}"))
    assert "the token_scores that compute_score" in error
    file.write_text("def compute_score(**given):\n    return judge(given)\n")
    assert step_scores.check(compose(RECIPE, naive, f"{FUNCTION}.path={file}")) == [], "only known when it runs"
