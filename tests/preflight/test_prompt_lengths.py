"""Prompts longer than data.max_prompt_length: refused, warned about, or left out, with the numbers."""

from __future__ import annotations

import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from reinforcepp_verl.preflight import prompt_lengths
from reinforcepp_verl.preflight.prompt_tokens import Bound, TemplateFailsError, Tokenizer, is_plain, template_of

RECIPE = "+recipe=math_rlvr/arithmetic"
MODEL = "data/arithmetic/model"
FILTER = "data.filter_overlong_prompts"


@pytest.fixture(autouse=True)
def _in_arithmetic(arithmetic, monkeypatch):
    monkeypatch.chdir(arithmetic)


def _file(path, *questions):
    """Write questions; `<bos>` is one token and so is each character."""
    rows = [
        {
            "data_source": "x",
            "prompt": [{"role": "user", "content": question}],
            "reward_model": {"style": "rule", "ground_truth": "2"},
        }
        for question in questions
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return f"data.train_files={path}"


def test_short_prompts_need_no_tokenizer(compose, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert prompt_lengths.check(compose(RECIPE)) == []


def test_truncation_error_is_refused_with_the_first_row(compose, tmp_path):
    file = _file(tmp_path / "a.parquet", *["1+1="] * 30, "1+1=" * 4, "1+1=" * 5)
    [problem] = prompt_lengths.check(compose(RECIPE, file))
    assert problem == (
        f"data.truncation is error: data.train_files: 2 of 32 prompts are longer than data.max_prompt_length=16, first "
        f"{tmp_path}/a.parquet, row 30 with 17 tokens; set data.max_prompt_length=21, {FILTER}=true, or "
        "data.truncation=left to cut off their beginning"
    )
    assert prompt_lengths.check(compose(RECIPE, file, "data.max_prompt_length=21")) == []


@pytest.mark.parametrize(
    ("cut", "says"), [("left", "beginning; set"), ("right", "(verl ignores data.truncation=right)")]
)
def test_cut_prompts_are_a_warning(compose, tmp_path, cut, says):
    file = _file(tmp_path / "a.parquet", *["1+1="] * 30, "1+1=" * 5)
    [warning] = prompt_lengths.check(compose(RECIPE, file, f"data.truncation={cut}"))
    assert warning.name == "long_prompts"
    assert says in warning.message and "set data.max_prompt_length=21 to keep all of them" in warning.message


def test_filtered_prompts(compose, tmp_path):
    file = _file(tmp_path / "a.parquet", *["1+1="] * 30, "1+1=" * 5)
    enough = (RECIPE, file, f"{FILTER}=true", "trainer.total_epochs=1000")
    [warning] = prompt_lengths.check(compose(*enough))
    assert "1 of 31 prompts are longer than data.max_prompt_length=16 and are left out" in warning.message
    [problem] = prompt_lengths.check(compose(*enough, "data.train_batch_size=31"))
    assert f"{FILTER} leaves 30; set data.max_prompt_length=21 to keep all, or: data.train_batch_size is 31" in problem


def test_a_row_that_the_template_refuses(compose, tmp_path):
    template = "{{ raise_exception('no users') if messages[0].content == '22' else '' }}{{ messages[0].content }}"
    file = _file(tmp_path / "a.parquet", "11", "22")
    config = compose(RECIPE, file, "data.max_prompt_length=1")
    config.actor_rollout_ref.model.custom_chat_template = template
    [problem] = prompt_lengths.check(config)
    assert (
        problem == f"data.train_files: {tmp_path}/a.parquet, row 1: the chat template fails (no users); correct the row"
    )


def test_files_or_a_tokenizer_elsewhere_are_not_measured(compose, tmp_path):
    file = _file(tmp_path / "a.parquet", "1" * 100)
    assert prompt_lengths.check(compose(RECIPE, "data.train_files=s3://x/a.parquet")) == []
    assert prompt_lengths.check(compose(RECIPE, file, "actor_rollout_ref.model.path=some/model")) == []
    assert prompt_lengths.check(compose(RECIPE, file, "data.tool_config_path=tools.yaml")) == []


QUESTIONS = ["1+1=", "", "12+34=" * 9, "é½ﷺ" * 3, " \n<bos>", "a" * 50]


@pytest.mark.parametrize(
    "template", [None, "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content|trim }}{% endfor %}A:"]
)
def test_lengths_are_those_of_verls_data_set_and_the_bound_holds(arithmetic, template):
    folder = arithmetic / MODEL
    prompts = [[{"role": "system", "content": "b"}, {"role": "user", "content": text}] for text in QUESTIONS]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template or tokenizer.chat_template
    as_verl = [
        len(tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=True)["input_ids"])
        for prompt in prompts
    ]
    assert Tokenizer(folder, template, {}).lengths(prompts) == as_verl
    column = pa.array(prompts)
    assert is_plain(column)
    bound = Bound(template or template_of(folder), {})
    for limit in range(max(as_verl) + 1):
        above = bound.above(column, limit)
        assert {number for number, length in enumerate(as_verl) if length > limit} <= set(above)


def test_template_settings_reach_the_template(arithmetic):
    template = "{{ messages[0].content }}{{ 'x' if thinking else '' }}"
    prompt = [{"role": "user", "content": "1"}]
    assert Tokenizer(arithmetic / MODEL, template, {"thinking": True}).lengths([prompt]) == [2]
    with pytest.raises(TemplateFailsError):
        Tokenizer(arithmetic / MODEL, "{{ 1 / messages }}", {}).lengths([prompt])
