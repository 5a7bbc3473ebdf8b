"""The addition scorer gives all or nothing and never evaluates what the model wrote."""

from __future__ import annotations

import pytest

from reinforcepp_verl.rewards.arithmetic import compute_score

SOURCE = "reinforcepp/arithmetic"


@pytest.mark.parametrize("answer", ["95", " 95\n", "95<eos>", "95<eos><pad><pad>", "<bos>95", "95<eos>12"])
def test_the_exact_answer_scores_one(answer):
    assert compute_score(SOURCE, answer, "95") == {"score": 1.0, "acc": 1.0, "pred": "95"}


@pytest.mark.parametrize(
    ("answer", "pred"),
    [
        ("", ""),
        ("<eos>95", ""),
        ("94", "94"),
        ("095", "095"),
        ("95.0", "95.0"),
        ("+95", "+95"),
        ("9 5", "9 5"),
        ("959", "959"),
        ("37+58", "37+58"),
        ("the answer is 95", "the answer is 95"),
    ],
)
def test_anything_else_scores_zero(answer, pred):
    assert compute_score(SOURCE, answer, "95") == {"score": 0.0, "acc": 0.0, "pred": pred}


def test_accepts_the_arguments_of_verls_reward_manager():
    result = compute_score(
        data_source=SOURCE,
        solution_str="120",
        ground_truth="120",
        extra_info={"index": 3, "num_turns": 2},
        reward_router_address="localhost:1",
        reward_model_tokenizer=None,
    )
    assert result["score"] == 1.0
    assert isinstance(result["acc"], float)
