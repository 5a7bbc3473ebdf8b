"""Votes for the same value in different notations are one vote."""

import random

from reinforcepp_verl.evaluation.equal_answers import by_value
from reinforcepp_verl.evaluation.estimates import majority_at_k


def test_equal_values_are_one_answer():
    answers = [r"\frac12", "0.5", "1/2", "2", "x+1", "1+x", "", r"2\text{ cm}", "3 cm", "3 m"]
    grouped = by_value(answers, [False] * len(answers))
    assert grouped[:3] == ["0.5"] * 3
    assert grouped[3] == grouped[7] != grouped[0]
    assert grouped[4] == grouped[5]
    assert grouped[6] == ""
    assert grouped[8] != grouped[9]


def test_a_right_and_a_wrong_answer_are_never_one():
    assert by_value(["0.5", "1/2"], [True, False]) == ["0.5", "1/2"]


def test_the_order_of_the_samples_does_not_matter():
    answers = ["1/2", "0.5", r"\frac{1}{2}", "0.50", "7", "7.0", ""]
    expected = dict(zip(answers, by_value(answers, [False] * 7), strict=True))
    shuffled = random.Random(1).sample(answers, k=7)
    assert dict(zip(shuffled, by_value(shuffled, [False] * 7), strict=True)) == expected


def test_two_notations_win_together():
    answers, correct = ["1/2", "0.5", "3", "3"], [True, True, False, False]
    assert majority_at_k([correct], [["1/2", "0.5", "3", "3"]], 4)[0] == 0
    assert majority_at_k([correct], [by_value(answers, correct)], 4)[0] == 0.5
