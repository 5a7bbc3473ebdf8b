"""Prompts and rewards that disagree about how an answer is marked."""

from __future__ import annotations

import json

import pytest
from verl.utils.reward_score import default_compute_score

from reinforcepp_verl.data.prompt_templates import TEMPLATES
from reinforcepp_verl.preflight import answer_format
from reinforcepp_verl.preflight.findings import PreflightWarning

RECIPE = "+recipe=math_rlvr/arithmetic"
GSM8K, MATH, AIME = "openai/gsm8k", "HuggingFaceH4/MATH-500", "aime24"


@pytest.fixture
def found(compose, tmp_path):
    """Return a function that checks a file with one prompt."""

    def check(template: str, data_source: str, *overrides: str):
        file = tmp_path / "train.jsonl"
        chat = TEMPLATES[template].chat("What is 1 + 1?")
        reward_model = {"style": "rule", "ground_truth": "2"}
        file.write_text(json.dumps({"data_source": data_source, "prompt": chat, "reward_model": reward_model}))
        config = compose(RECIPE, f"data.train_files={file}", f"data.val_files={file}", *overrides)
        return answer_format.check(config)

    return check


@pytest.mark.parametrize("template", ["boxed", "boxed_system", "hashes", "answer_line"])
def test_the_math_reward_reads_what_every_template_asks_for(found, template):
    assert found(template, "mine", "+reward_function=math") == []


def test_a_bare_question_is_a_warning_unless_the_last_number_counts(found):
    warning, _ = found("bare", "mine", "+reward_function=math")
    assert isinstance(warning, PreflightWarning) and warning.name == "answer_format"
    assert r"the reward reads \boxed or #### or Answer:" in warning.message
    last_number = "reward.custom_reward_function.reward_kwargs.last_number=true"
    assert found("bare", "mine", "+reward_function=math", last_number) == []


@pytest.mark.parametrize(
    ("template", "data_source", "fits"),
    [
        ("hashes", GSM8K, True),
        ("boxed", GSM8K, False),
        ("answer_line", GSM8K, False),
        ("boxed", MATH, True),
        ("hashes", MATH, False),
        ("answer_line", AIME, True),
        ("boxed", AIME, True),
        ("hashes", AIME, False),
        ("hashes", "unknown", True),
    ],
)
def test_verls_scorers_read_one_form(found, template, data_source, fits):
    errors = found(template, data_source, "reward.custom_reward_function.path=null")
    assert (errors == []) == fits
    for error in errors:
        assert isinstance(error, str) and "every answer would be wrong" in error and "--template" in error


@pytest.mark.parametrize("data_source", answer_format.READ_BY_VERL)
@pytest.mark.parametrize("mark", answer_format.MARKS)
def test_the_table_says_what_verls_scorers_read(data_source, mark):
    answer = r"\boxed{2}" if mark == r"\boxed" else f"{mark} 2"
    found = default_compute_score(data_source, answer, "2")
    right = (found["score"] if isinstance(found, dict) else found) > 0
    assert right == (mark in answer_format.READ_BY_VERL[data_source])


GYM, GYM_REWARD = "reasoning_gym/chain_sum", "+reward_function=reasoning_gym"


@pytest.mark.parametrize("template", ["answer_tags", "think_answer_tags", "direct_answer_tags"])
def test_the_reasoning_gym_reward_reads_tags(found, template):
    assert found(template, GYM, GYM_REWARD) == []


def test_the_reasoning_gym_reward_reads_no_box_and_a_bare_answer_only_if_told(found):
    error, _ = found("boxed", GYM, GYM_REWARD)
    assert r"asks for the answer after \boxed, but the reward reads <answer>" in error
    assert error.endswith("prepare it with --template answer_tags")
    warning, _ = found("bare", GYM, GYM_REWARD)
    assert warning.name == "answer_format"
    assert found("bare", GYM, GYM_REWARD, "reward.custom_reward_function.reward_kwargs.whole_text=true") == []


def test_only_its_own_reward_scores_reasoning_gym_and_nothing_else(found):
    error, _ = found("answer_tags", GYM, "+reward_function=math")
    kwargs = "'~reward.custom_reward_function.reward_kwargs'"
    assert error.endswith(
        f"use reward.custom_reward_function.path=pkg://reinforcepp_verl.rewards.reasoning_gym {kwargs}"
    )
    error, _ = found("answer_tags", GYM, "reward.custom_reward_function.path=null")
    assert error.endswith("use reward.custom_reward_function.path=pkg://reinforcepp_verl.rewards.reasoning_gym")
    error, _ = found("answer_tags", GSM8K, GYM_REWARD)
    assert f"its first row is from {GSM8K}" in error and error.endswith("use another reward function")
    assert found("answer_tags", GYM, "reward.custom_reward_function.path=my_reward.py") == []


def test_another_reward_function_may_read_anything(found):
    assert found("bare", GSM8K, "reward.custom_reward_function.path=my_reward.py") == []
