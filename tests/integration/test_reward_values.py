"""The means of what a reward function returns beside the score."""

from reinforcepp_verl.integration.reward_values import reward_values


def test_numbers_are_averaged_over_the_answers_that_have_them():
    rows = [
        {"score": 5.0, "reward_error": 0.0, "reward_timeout": 0.0, "quality": 1.0, "words": 4, "pred": "a"},
        {"score": 1.0, "reward_error": 0.0, "reward_timeout": 0.0, "quality": 0.0, "right": True, "words": None},
        {"score": 0.0, "reward_error": 1.0, "reward_timeout": 1.0, "quality": 0.0, "right": 0.0, "words": 0.0},
    ]
    assert reward_values(rows) == {"reward/quality/mean": 0.5, "reward/words/mean": 4.0, "reward/right/mean": 1.0}
    assert reward_values([]) == {}


def test_a_number_that_is_not_finite_does_not_hide_the_others():
    rows = [{"quality": 1.0}, {"quality": float("nan")}, {"quality": 0.0, "words": 10**400}]
    assert reward_values(rows) == {"reward/quality/mean": 0.5}
