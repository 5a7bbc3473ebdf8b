"""The sums by size: as many questions of each, a data source for each, and accuracies that count sizes equally."""

from __future__ import annotations

from collections import Counter

import pyarrow.parquet as pq
import pytest
import torch

from reinforcepp_verl.rewards.running_sums import outcome_score
from reinforcepp_verl.tasks import running_sums_model, sums_by_size_model
from reinforcepp_verl.tasks.running_sums_question import RunningSums
from reinforcepp_verl.tasks.sums_by_size_model import SumsBySizeWarmStart
from reinforcepp_verl.tasks.sums_by_size_task import SIZES, TASK, build_tokenizer, split_questions
from reinforcepp_verl.tasks.warm_start import build_model

TINY = SumsBySizeWarmStart(hidden_size=32, layers=1, careful_steps=2, sloppy_steps=2, batch_size=8)
MAX_PROMPT_TOKENS, MAX_ANSWER_TOKENS = 16, 24  # of the recipe


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_there_are_as_many_questions_of_each_size_and_none_for_both():
    train, val = split_questions(seed=1)
    sizes = [Counter(len(question.numbers) for question in part) for part in (train, val)]
    assert sizes == [dict.fromkeys(SIZES, 4000), dict.fromkeys(SIZES, 64)]
    assert len({*train, *val}) == 9**3 + 3 * 4064 and not {*train} & {*val}
    assert all(1 <= number <= 9 for question in train for number in question.numbers)
    assert (train, val) == split_questions(seed=1) != split_questions(seed=2)


def test_the_longest_question_and_answer_fit_and_score_one(tokenizer):
    question = RunningSums((9,) * max(SIZES))
    prompt = tokenizer.apply_chat_template(question.messages, tokenize=False)
    for text, limit in ((prompt, MAX_PROMPT_TOKENS), (f"{question.answer}<eos>", MAX_ANSWER_TOKENS)):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert len(ids) <= limit and tokenizer.unk_token_id not in ids and tokenizer.decode(ids) == text
    assert outcome_score("", question.answer, question.answer)["score"] == 1.0


def test_the_accuracy_is_the_mean_over_sizes(tokenizer):
    model = build_model(tokenizer, TINY)
    short, long = [RunningSums((1, 2, 3))], [RunningSums((1, 2, 3, 4)), RunningSums((9, 9, 9, 9))]
    apart = [running_sums_model.measure(model, tokenizer, group).sampled for group in (short, long)]
    found = sums_by_size_model.measure(model, tokenizer, [long[0], *short, long[1]])
    assert found.sampled == pytest.approx(sum(apart) / 2)


def test_prepare_names_a_data_source_for_each_size_and_writes_the_same_bytes_again(tmp_path):
    outs = [tmp_path / name for name in ("first", "second")]
    for out in outs:
        TASK.prepare(out, seed=5, settings=TINY)
    files = sorted(path.relative_to(outs[0]) for path in outs[0].rglob("*") if path.is_file())
    assert all((outs[0] / name).read_bytes() == (outs[1] / name).read_bytes() for name in files)
    rows = pq.read_table(outs[0] / "val.parquet").to_pylist()
    assert [row["extra_info"]["index"] for row in rows] == list(range(len(rows)))
    for row in rows:
        numbers = row["prompt"][0]["content"].count("+") + 1
        assert row["data_source"] == f"reinforcepp/sums_of_{numbers}"
        assert row["reward_model"]["ground_truth"].count(";") == numbers - 1


def test_every_size_is_demonstrated(tokenizer, monkeypatch):
    questions, seen = [RunningSums((1, 2, 3)), RunningSums((1, 2, 3, 4))], set()

    def train(tokenizer, teacher, *_, **__):
        generator = torch.Generator().manual_seed(0)
        seen.update(teacher(4, generator, sloppy=False)[0].shape[1] for _ in range(20))

    monkeypatch.setattr(sums_by_size_model.warm_start, "train", train)
    sums_by_size_model.train(questions, tokenizer, seed=1, settings=TINY)
    assert len(seen) == 2
