"""The word problems: right answers, formats that the converters read, a tokenizer that covers every text, a folder."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner
from verl.utils import hf_tokenizer
from verl.utils.tokenizer import normalize_token_ids

from reinforcepp_verl.cli import app
from reinforcepp_verl.data import prompt_templates
from reinforcepp_verl.data.answers import after_hashes, last_boxed
from reinforcepp_verl.rewards.math import compute_score
from reinforcepp_verl.tasks import word_model, word_problems_task
from reinforcepp_verl.tasks.warm_start import build_model
from reinforcepp_verl.tasks.word_model import (
    MAX_ANSWER_TOKENS,
    WordProblemWarmStart,
    answer_text,
    build_tokenizer,
    texts,
)
from reinforcepp_verl.tasks.word_problems_task import TASK, TEMPLATE
from reinforcepp_verl.tasks.word_templates import FORMATS, problems, row

MAX_PROMPT_TOKENS = 64  # of the recipe
TINY = WordProblemWarmStart(hidden_size=32, layers=1, careful_steps=2, sloppy_steps=2, batch_size=8)
FRACTION = r"\$\\frac\{(\d+)\}\{(\d+)\}\$"
# The answer to each question, computed from its text alone.
EXPECTED = {
    r"\w+ has (\d+) (\w+) and buys (\d+) more\. How many \2 does \w+ have\?": lambda a, _, b: int(a) + int(b),
    r"(\w+) buys (\d+) \w+ for (\d+) dollars each\. How many dollars does \1 pay\?": lambda _, a, b: int(a) * int(b),
    r"\w+ packs (\d+) boxes of (\d+) (\w+) and gives (\d+) \3 away\. How many \3 are left\?": lambda a, b, _, c: (
        int(a) * int(b) - int(c)
    ),
    rf"\w+ eats {FRACTION} of a cake and \w+ eats {FRACTION}\. How much is eaten\?": lambda a, m, b, n: (
        Fraction(int(a), int(m)) + Fraction(int(b), int(n))
    ),
    rf"\w+ fills (\d+) \w+ with {FRACTION} liters each\. How many liters is that\?": lambda k, a, n: (
        int(k) * Fraction(int(a), int(n))
    ),
    r"(\w+) has \$x\$ (\w+), buys (\d+) and finds (\d+)\. How many \2 does \1 have\?": lambda _, __, a, b: (
        f"x+{int(a) + int(b)}"
    ),
}
ALL = {name: problems(name, 600, seed=1) for name in FORMATS}
EVERY = [problem for found in ALL.values() for problem in found]


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(texts(EVERY, prompt_templates.find(TEMPLATE)))


@pytest.fixture(scope="module")
def few_questions():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_problems_task, "TRAIN_QUESTIONS", 96)
        patch.setattr(word_problems_task, "TEST_QUESTIONS", 12)
        yield


@pytest.fixture(scope="module")
def product(tmp_path_factory, few_questions):
    outs = [tmp_path_factory.mktemp("product") / "word_problems" for _ in range(2)]
    for out in outs:
        TASK.prepare(out, seed=5, settings=TINY)
    return outs


def in_lowest_terms(value: Fraction | int | str) -> str:
    if isinstance(value, Fraction):
        return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
    return str(value)


def stated(name: str, solution: str) -> str:
    return after_hashes(solution) if name == "gsm8k" else last_boxed(solution)


@pytest.mark.parametrize("name", FORMATS)
def test_the_stated_answer_is_right(name):
    for problem in ALL[name]:
        matches = [
            (match, work) for words, work in EXPECTED.items() if (match := re.fullmatch(words, problem.question))
        ]
        (match, work), *others = matches
        assert not others
        assert stated(name, problem.solution) == in_lowest_terms(work(*match.groups()))


@pytest.mark.parametrize("name", FORMATS)
def test_steps_in_gsm8ks_brackets_and_lines_of_right_solutions_are_true(name):
    for problem in ALL[name]:
        lines = [*re.findall(r"<<(.*?)>>", problem.solution), *(", ".join(w.line for w in problem.right)).split(", ")]
        for line in lines:
            left, right = line.split("=")
            assert eval(left) == eval(right), line


@pytest.mark.parametrize("name", FORMATS)
def test_right_workings_are_accepted_and_wrong_ones_not(name):
    for problem in ALL[name][:90]:
        truth = stated(name, problem.solution)
        for verdict, workings in ((1.0, problem.right), (0.0, problem.wrong)):
            assert workings
            for working in workings:
                assert compute_score("", answer_text(working), truth, workers=1)["acc"] == verdict, working
                assert compute_score("", answer_text(working, boxed=False), truth, workers=1)["acc"] == 0.0


def test_no_wrong_working_states_the_right_answer():
    for problem in EVERY:
        assert not {working.answer for working in problem.wrong} & {working.answer for working in problem.right}


def test_each_template_has_its_share_and_the_seed_decides():
    for name, makers in FORMATS.items():
        counts = Counter(problem.template for problem in ALL[name])
        assert len(counts) == len(makers)
        assert set(counts.values()) == {200}
        assert problems(name, 30, seed=1) == ALL[name][:30] != problems(name, 30, seed=2)


def test_rows_have_the_columns_of_their_sources():
    assert row("gsm8k", ALL["gsm8k"][0]).keys() == {"question", "answer"}
    kinds = {row("math", problem)["type"] for problem in ALL["math"]}
    assert row("math", ALL["math"][0]).keys() == {"problem", "level", "type", "solution"}
    assert kinds == {"Prealgebra", "Algebra"}


def test_tokenizer_round_trips_every_text(tokenizer):
    template = prompt_templates.find(TEMPLATE)
    for problem in EVERY:
        prompt = word_model.prompt_text(tokenizer, template.chat(problem.question))
        answers = [answer_text(w, boxed=b) for w in (*problem.right, *problem.wrong) for b in (True, False)]
        for text, limit in [(prompt, MAX_PROMPT_TOKENS), *((answer, MAX_ANSWER_TOKENS - 1) for answer in answers)]:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids) == text
            assert len(ids) <= limit


def test_chat_has_roles_and_ends_where_the_assistant_begins(product):
    loaded = hf_tokenizer(str(product[0] / "model"))
    chat = prompt_templates.find(TEMPLATE).chat("Ada has 3 eggs and buys 4 more.")
    ids = normalize_token_ids(loaded.apply_chat_template(chat, add_generation_prompt=True, tokenize=True))
    assert loaded.decode(ids) == (
        "<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n"
        "<|im_start|>user\nAda has 3 eggs and buys 4 more.<|im_end|>\n<|im_start|>assistant\n"
    )
    assert loaded.eos_token == "<|im_end|>" != loaded.pad_token


def test_product_holds_both_formats_as_the_converters_make_them(product, tmp_path):
    folder = product[0]
    assert {path.name for path in folder.iterdir()} == TASK.contents
    for name in FORMATS:
        command = ["prepare", name, "--source", folder / "raw" / name, "--template", TEMPLATE, "--out", tmp_path / name]
        result = CliRunner().invoke(app, [str(part) for part in command])
        assert result.exit_code == 0, result.output
        for split, rows in (("train", 96), ("test", 12)):
            ours, theirs = (pq.read_table(out / name / f"{split}.parquet").to_pylist() for out in (folder, tmp_path))
            assert len(ours) == rows
            assert {found.pop("data_source") for found in ours} == {f"word_problems/{name}"}
            assert [{**found, "data_source": None} for found in ours] == [
                {**found, "data_source": None} for found in theirs
            ]


def test_both_formats_are_in_both_splits_and_no_question_is_in_two(product):
    train, val = (pq.read_table(product[0] / f"{split}.parquet").to_pylist() for split in ("train", "val"))
    for rows, count in ((train, 96), (val, 12)):
        found = Counter(row["data_source"] for row in rows)
        assert found == {f"word_problems/{name}": count for name in FORMATS}
    questions = [row["extra_info"]["question"] for row in [*train, *val]]
    assert len(set(questions)) == len(questions) == 216


def test_prepare_writes_the_same_bytes_again(product):
    first, second = product
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in files)
    assert first / "model" / "model.safetensors" in {first / name for name in files}


def test_manifest_records_the_product_and_is_kept(product):
    manifest = json.loads((product[0] / "manifest.json").read_text())
    assert (manifest["train_questions"], manifest["val_questions"]) == (192, 24)
    assert manifest["val_accuracy"].keys() == set(FORMATS)
    steps: list[int] = []
    assert TASK.prepare(product[0], seed=5, settings=TINY, progress=lambda done, _: steps.append(done)) == manifest
    assert not steps


def test_model_is_small_in_fp32_and_loads(product, tokenizer):
    model = AutoModelForCausalLM.from_pretrained(product[0] / "model")
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert model.config.max_position_embeddings >= MAX_PROMPT_TOKENS + MAX_ANSWER_TOKENS
    full = build_model(tokenizer, WordProblemWarmStart())
    assert full.num_parameters() <= 1_500_000


def test_sloppy_teacher_errs_as_often_as_it_should(tokenizer):
    settings = WordProblemWarmStart(wrong=1.0, unboxed=1.0, batch_size=32)
    rows = [{"prompt": prompt_templates.find(TEMPLATE).chat(problem.question)} for problem in EVERY]
    demonstrations = word_model._Demonstrations(EVERY, rows, tokenizer, settings)
    for sloppy in (False, True):
        generator = torch.Generator().manual_seed(0)
        tokens, targets = demonstrations.batch(32, generator, sloppy=sloppy)
        assert tokens.shape == targets.shape
        drawn = torch.randint(len(EVERY), (32,), generator=torch.Generator().manual_seed(0)).tolist()
        for i, target in zip(drawn, targets, strict=True):
            text = tokenizer.decode(target, skip_special_tokens=True)
            workings = EVERY[i].wrong if sloppy else EVERY[i].right
            assert text in {answer_text(working, boxed=not sloppy) for working in workings}


def test_command_closes_with_a_table(tmp_path, few_questions, monkeypatch):
    monkeypatch.setattr(word_problems_task, "TASK", replace(TASK, settings=lambda: TINY))
    monkeypatch.setenv("COLUMNS", "200")
    command = ["prepare", "word_problems", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert all(text in result.output for text in ("192", "24", "gsm8k format", "math format", "sampled", "seconds"))
    refused = CliRunner().invoke(app, [*command, "--template", "boxed"])
    assert refused.exit_code == 2
    assert "word_problems does not use --template; remove it" in refused.stderr
