"""The running sums: questions, a teacher that errs in single steps, a folder, and answers that their reward accepts."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from reinforcepp_verl.cli import app
from reinforcepp_verl.rewards.running_sums import compute_score
from reinforcepp_verl.tasks import running_sums_model, running_sums_task
from reinforcepp_verl.tasks.running_sums_model import RunningSumsWarmStart, measure, noisy_sums
from reinforcepp_verl.tasks.running_sums_question import RunningSums
from reinforcepp_verl.tasks.running_sums_task import TASK, build_tokenizer, split_questions
from reinforcepp_verl.tasks.warm_start import build_model

TINY = RunningSumsWarmStart(hidden_size=32, layers=1, careful_steps=2, sloppy_steps=2, batch_size=8)
MAX_PROMPT_TOKENS, MAX_ANSWER_TOKENS = 16, 16  # of the recipe


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_questions_are_all_of_four_numbers_split_without_overlap():
    train, val = split_questions(seed=1)
    assert (len(train), len(val), len({*train, *val})) == (6561 - 512, 512, 6561)
    assert (train, val) == split_questions(seed=1) != split_questions(seed=2)


def test_a_question_and_its_answer_fit_and_score_one(tokenizer):
    question = RunningSums((9, 9, 9, 9))
    [message] = question.messages
    assert (message["content"], question.answer) == ("9+9+9+9=", "18;27;36;")
    prompt = tokenizer.apply_chat_template(question.messages, tokenize=False)
    for text, limit in ((prompt, MAX_PROMPT_TOKENS), (f"{question.answer}<eos>", MAX_ANSWER_TOKENS)):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert len(ids) <= limit and tokenizer.unk_token_id not in ids and tokenizer.decode(ids) == text
    row = compute_score(running_sums_task.DATA_SOURCE, question.answer, question.answer)
    assert sum(score for _, score in row["step_scores"]) == pytest.approx(1.0)


def test_the_sloppy_teacher_errs_in_a_step_and_goes_on_from_there():
    numbers, generator = torch.tensor([[3, 4, 5, 6], [1, 2, 3, 4]]), torch.Generator().manual_seed(0)
    forgetful = RunningSumsWarmStart(forgotten_carry=1.0, wrong_last_digit=0.0)
    assert noisy_sums(numbers, forgetful, generator).tolist() == [[7, 2, 8], [3, 6, 0]]
    slips = RunningSumsWarmStart(forgotten_carry=0.0, wrong_last_digit=1.0)
    sums = noisy_sums(numbers.repeat(200, 1), slips, generator)
    before = torch.cat([numbers.repeat(200, 1)[:, :1], sums[:, :-1]], dim=1)
    right = before + numbers.repeat(200, 1)[:, 1:]
    assert (sums // 10 == right // 10).all() and (sums != right).all()


def test_demonstrations_of_the_careful_teacher_are_right(tokenizer):
    questions = [RunningSums((3, 4, 5, 6)), RunningSums((9, 9, 9, 9))]
    demonstrations = running_sums_model.Demonstrations(questions, tokenizer, TINY)
    tokens, targets = demonstrations.batch(6, torch.Generator().manual_seed(0), sloppy=False)
    for row, answer in zip(tokens, targets, strict=True):
        prompt = tokenizer.decode(row[:9])
        question = next(q for q in questions if prompt == f"<bos>{q.messages[0]['content']}")
        assert tokenizer.decode(answer, skip_special_tokens=True) == question.answer
        assert torch.equal(row[9:], answer[:-1])


def test_accuracy_is_the_probability_of_the_whole_answer(tokenizer):
    question, model = RunningSums((1, 2, 3, 4)), build_model(tokenizer, TINY)
    text = f"<bos>1+2+3+4={question.answer}<eos>"
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    log_probs = model(input_ids=ids).logits.log_softmax(-1)[0]
    expected = sum(log_probs[place - 1, ids[0, place]].item() for place in range(9, ids.shape[1]))
    # The other question is longer, so that this one's answer is padded.
    found = measure(model, tokenizer, [question, RunningSums((9, 9, 9, 9))])
    other = measure(model, tokenizer, [RunningSums((9, 9, 9, 9))])
    assert 2 * found.sampled - other.sampled == pytest.approx(torch.tensor(expected).exp().item(), rel=1e-3)


def test_prepare_writes_the_same_bytes_again_and_keeps_its_product(tmp_path):
    outs = [tmp_path / name for name in ("first", "second")]
    for out in outs:
        TASK.prepare(out, seed=5, settings=TINY)
    files = sorted(path.relative_to(outs[0]) for path in outs[0].rglob("*") if path.is_file())
    assert all((outs[0] / name).read_bytes() == (outs[1] / name).read_bytes() for name in files)
    assert {path.name for path in outs[0].iterdir()} == TASK.contents
    row = pq.read_table(outs[0] / "val.parquet").to_pylist()[0]
    assert (row["data_source"], row["extra_info"]) == ("reinforcepp/running_sums", {"split": "val", "index": 0})
    manifest = json.loads((outs[0] / "manifest.json").read_text())
    assert (manifest["train_questions"], manifest["val_questions"]) == (6049, 512)
    steps: list[int] = []
    assert TASK.prepare(outs[0], seed=5, settings=TINY, progress=lambda done, _: steps.append(done)) == manifest
    assert not steps


def test_the_command_prepares_it_and_refuses_options_of_other_tasks(tmp_path, monkeypatch):
    monkeypatch.setattr(running_sums_task, "TASK", replace(TASK, settings=lambda: TINY))
    done = CliRunner().invoke(app, ["prepare", "running_sums", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0 and "6049" in done.output, done.output
    refused = CliRunner().invoke(app, ["prepare", "running_sums", "--source", "x"])
    assert refused.exit_code == 2 and "running_sums does not use --source; remove it" in refused.stderr
