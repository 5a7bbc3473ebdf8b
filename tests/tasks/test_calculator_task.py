"""The calculator task: sessions in verl's own format, a reward for the last turn, a tokenizer for it, a folder."""

from __future__ import annotations

import asyncio
import json
import random

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner
from verl.experimental.agent_loop.tool_parser import ToolParser
from verl.tools.tool_registry import load_all_tools
from verl.utils import hf_tokenizer
from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

from reinforcepp_verl.cli import app
from reinforcepp_verl.rewards.calculator import compute_score
from reinforcepp_verl.tasks import calculator_task
from reinforcepp_verl.tasks.calculator import REASONS
from reinforcepp_verl.tasks.calculator_model import (
    CalculatorWarmStart,
    SessionEncoder,
    build_tokenizer,
    measure,
)
from reinforcepp_verl.tasks.calculator_question import (
    TEMPLATES,
    Errors,
    Question,
    careful_session,
    observation,
    questions,
    sloppy_session,
)
from reinforcepp_verl.tasks.calculator_task import TASK

MAX_PROMPT_TOKENS, MAX_RESPONSE_TOKENS = 16, 64  # of the recipe
TINY = CalculatorWarmStart(hidden_size=32, layers=1, careful_steps=2, sloppy_steps=2, batch_size=8)
ASKED = questions(400, seed=1)
EXAMPLE = Question(0, 12, 34, 5)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    outs = [tmp_path_factory.mktemp("product") / "calculator" for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calculator_task, "TRAIN_QUESTIONS", 300)
        patch.setattr(calculator_task, "VALIDATION_QUESTIONS", 12)
        for out in outs:
            TASK.prepare(out, seed=5, settings=TINY)
    return outs


def response(session) -> str:
    """Return a session as the reward function gets it: verl decodes all turns without special tokens."""
    return "".join(turn.said + (f"tool\n{turn.heard}assistant\n" if turn.heard else "") for turn in session)


def test_questions_are_different_and_their_answers_are_those_of_python():
    assert len(set(ASKED)) == 400 and questions(40, seed=1) == ASKED[:40] != questions(40, seed=2)
    assert {question.template for question in ASKED} == set(range(len(TEMPLATES)))
    assert all(str(eval(question.text)) == question.answer and int(question.answer) > 0 for question in ASKED)


def test_the_careful_teacher_is_right_with_one_operation_per_call():
    for question in ASKED:
        session = careful_session(question)
        assert len(session) == 3 and "error" not in response(session)
        assert compute_score("", response(session), question.answer)["acc"] == 1.0


def test_a_session_word_for_word():
    first, second, last = careful_session(EXAMPLE)
    assert first.said == '<tool_call>{"name": "calculator", "arguments": {"expression": "34*5"}}</tool_call>'
    assert (first.heard, second.heard, last.said, last.heard) == ("170", "182", "#### 182", None)
    assert '"12+170"' in second.said


@pytest.mark.parametrize(
    ("errors", "answer"),
    [
        (Errors(1.0, 0.0, 0.0, 0.0), "230"),
        (Errors(0.0, 1.0, 0.0, 0.0), "170"),
        (Errors(0.0, 0.0, 1.0, 0.0), "12"),
        (Errors(0.0, 0.0, 0.0, 0.0), "182"),
    ],
)
def test_each_error_of_the_sloppy_teacher(errors, answer):
    session = sloppy_session(EXAMPLE, errors, random.Random(0))
    assert compute_score("", response(session), "182") == {
        "score": float(answer == "182"),
        "acc": float(answer == "182"),
        "pred": answer,
    }


def test_a_misread_result_differs_in_one_digit():
    session = sloppy_session(EXAMPLE, Errors(0.0, 0.0, 0.0, 1.0), random.Random(0))
    said = session[-1].said.removeprefix("#### ")
    assert sum(a != b for a, b in zip(said, "182", strict=True)) == 1


def test_both_operations_in_one_call_are_refused():
    assert observation(EXAMPLE.text) == "error: too many operations"
    session = sloppy_session(EXAMPLE, Errors(whole_expression=1.0), random.Random(0))
    assert session[0].heard == "error: too many operations"


@pytest.mark.parametrize(
    ("text", "accuracy"),
    [
        ("#### 182", 1.0),
        ("#### 182\n", 1.0),
        ("#### 12#### 182", 1.0),
        ("182", 0.0),
        ("#### 1820", 0.0),
        ("#### 182 apples", 0.0),
        ("#### 182tool\n7assistant\n", 0.0),
        ("", 0.0),
    ],
)
def test_the_reward_reads_the_end_of_the_last_turn(text, accuracy):
    assert compute_score("", text, "182")["score"] == accuracy


def test_verls_parser_and_tools_read_what_the_teacher_writes(product, tokenizer):
    parser = ToolParser.get_tool_parser("hermes", tokenizer)
    [tool] = load_all_tools(str(product[0] / "tools.yaml"), None)
    for question in ASKED[:20]:
        for turn in careful_session(question)[:2]:
            ids = tokenizer(f"{turn.said}<|im_end|>", add_special_tokens=False)["input_ids"]
            _, [call] = asyncio.run(parser.extract_tool_calls(ids, [tool.tool_schema]))
            assert call.name == tool.name
            said, reward, metrics = asyncio.run(tool.execute("", json.loads(call.arguments)))
            assert (said.text, reward, metrics) == (turn.heard, 0.0, {})


@pytest.mark.parametrize("parameters", [{}, [], "1+1", None, {"expression": None}, {"expression": ["1+1"]}])
def test_parameters_that_a_model_makes_up_are_refused(product, parameters):
    [tool] = load_all_tools(str(product[0] / "tools.yaml"), None)
    said, _, _ = asyncio.run(tool.execute("", parameters))
    assert said.text == "error: not arithmetic"


def test_the_model_is_trained_on_the_tokens_that_verls_agent_loop_builds(tokenizer):
    """And only on those that verl's mask marks as the model's."""
    builder = create_continuous_token_builder(tokenizer, hf_model_type="llama")
    encoder = SessionEncoder(tokenizer)
    for question in ASKED[:20]:
        for session in (
            careful_session(question),
            sloppy_session(question, Errors(whole_expression=1.0), random.Random(0)),
        ):
            messages = list(question.messages)
            ids, mask = builder.build_initial_tokens(messages), []
            prompt = len(ids)
            for turn in session:
                said = tokenizer(f"{turn.said}<|im_end|>", add_special_tokens=False)["input_ids"]
                merged = builder.merge_assistant_tokens(ids, said)
                mask, _ = builder.align_response_metadata(merged, mask)
                ids, before = merged.token_ids, [*messages, {"role": "assistant", "content": turn.said}]
                if turn.heard is not None:
                    messages = [*before, {"role": "tool", "content": turn.heard}]
                    merged = builder.merge_context_tokens(before, messages, ids)
                    mask, _ = builder.align_response_metadata(merged, mask)
                    ids = merged.token_ids
            tokens, targets = encoder.batch([(question, session)])
            assert tokens[0].tolist() == ids[:-1]
            assert (targets[0, prompt - 1 :] != encoder.pad).int().tolist() == mask
            assert not (targets[0, : prompt - 1] != encoder.pad).any()
            assert prompt <= MAX_PROMPT_TOKENS and len(mask) < MAX_RESPONSE_TOKENS
            assert tokenizer.unk_token_id not in ids


def test_tokenizer_round_trips_any_text(tokenizer, product):
    saved = hf_tokenizer(str(product[0] / "model"))
    for text in ('error: 7 {"name": "other"} <tool_call>x</tool_call>\n~', *(f"error: {reason}" for reason in REASONS)):
        for one in (tokenizer, saved):
            ids = one(text, add_special_tokens=False)["input_ids"]
            assert one.unk_token_id not in ids and one.decode(ids) == text
    assert len(tokenizer("error: too many operations")["input_ids"]) == 1


def test_the_chat_template_renders_a_call_as_the_model_writes_it(tokenizer):
    function = {"name": "calculator", "arguments": {"expression": "34*5"}}
    call = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}
    text = tokenizer.apply_chat_template([*EXAMPLE.messages, call], tokenize=False)
    said = careful_session(EXAMPLE)[0].said
    assert text == f"<|im_start|>user\n12+34*5<|im_end|><|im_start|>assistant\n{said}<|im_end|>"


def test_measure_is_the_probability_of_the_careful_session(product, tokenizer):
    model = AutoModelForCausalLM.from_pretrained(product[0] / "model").eval()
    inputs, targets = SessionEncoder(tokenizer).batch([(EXAMPLE, careful_session(EXAMPLE))])
    log_probs = model(input_ids=inputs).logits.log_softmax(-1)[0]
    said = [(i, t) for i, t in enumerate(targets[0].tolist()) if t != tokenizer.pad_token_id]
    expected = sum(log_probs[i, t].item() for i, t in said)
    measured = measure(model, tokenizer, [EXAMPLE])
    assert measured.sampled == pytest.approx(torch.tensor(expected).exp().item(), rel=1e-4)
    assert measured.greedy == float(all(log_probs[i].argmax() == t for i, t in said))


def test_product_has_different_questions_in_its_splits_and_the_same_bytes_again(product):
    first, second = product
    assert {path.name for path in first.iterdir()} == TASK.contents
    train, val = (pq.read_table(first / f"{split}.parquet").to_pylist() for split in ("train", "val"))
    assert (len(train), len(val)) == (300, 12)
    assert len({row["prompt"][0]["content"] for row in [*train, *val]}) == 312
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in files)


def test_command_closes_with_a_table(tmp_path, monkeypatch):
    monkeypatch.setattr(calculator_task, "CalculatorWarmStart", lambda: TINY)
    monkeypatch.setattr(calculator_task, "TRAIN_QUESTIONS", 300)
    monkeypatch.setenv("COLUMNS", "200")
    command = ["prepare", "calculator", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert all(text in result.output for text in ("300", "256", "at least", "sampled", "seconds"))
    refused = CliRunner().invoke(app, [*command, "--template", "boxed"])
    assert refused.exit_code == 2 and "calculator does not use --template; remove it" in refused.stderr
