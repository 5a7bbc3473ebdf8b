"""The share of wrong and of decided verdicts is the one asked for, and the true verdict is kept."""

from __future__ import annotations

import pytest

from reinforcepp_verl.rewards.imperfect_arithmetic import compute_score

QUESTIONS = range(4000)


def scores(answer: str, **settings: float) -> list[dict]:
    return [compute_score("x", answer, "12", {"index": i, "split": "train"}, **settings) for i in QUESTIONS]


def test_without_faults_it_is_the_arithmetic_reward():
    assert {(found["score"], found["acc"]) for found in scores("12<eos>")} == {(1.0, 1.0)}
    assert {(found["score"], found["acc"]) for found in scores("13<eos>")} == {(0.0, 0.0)}


@pytest.mark.parametrize(("answer", "right"), [("12<eos>", 1.0), ("13<eos>", 0.0)])
def test_a_share_of_the_verdicts_is_flipped_and_the_accuracy_is_true(answer, right):
    found = scores(answer, flipped=0.3)
    assert sum(one["score"] != right for one in found) / len(found) == pytest.approx(0.3, abs=0.03)
    assert {one["acc"] for one in found} == {right}
    assert found == scores(answer, flipped=0.3)


def test_a_share_of_the_questions_is_decided_whatever_the_answer():
    right, wrong = scores("12<eos>", decided=0.5), scores("13<eos>", decided=0.5)
    same = [a["score"] for a, b in zip(right, wrong, strict=True) if a["score"] == b["score"]]
    assert len(same) / len(right) == pytest.approx(0.5, abs=0.03)
    assert sum(same) / len(same) == pytest.approx(0.5, abs=0.04)


def test_a_share_outside_0_to_1_is_refused():
    with pytest.raises(ValueError, match="flipped is 30"):
        compute_score("x", "1", "1", flipped=30)
