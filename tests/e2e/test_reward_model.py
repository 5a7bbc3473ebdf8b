"""A run with a learned reward model, which verl's own engine serves: its scores are those of transformers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import fmean, pstdev

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from reinforcepp_verl.rewards.packing_list import quality
from reinforcepp_verl.tasks.bradley_terry import RewardModelTraining
from reinforcepp_verl.tasks.packing_model import PackingWarmStart
from reinforcepp_verl.tasks.preferences_toy_task import TASK, PreferencesToySettings

pytestmark = [pytest.mark.e2e, pytest.mark.long]

COMMAND = Path(sys.executable).with_name("reinforcepp")
STEPS = 3


@pytest.fixture
def task(workplace) -> Path:
    """The task with short trainings."""
    folder = workplace / "data" / "preferences_toy"
    settings = PreferencesToySettings(PackingWarmStart(careful_steps=50), RewardModelTraining(steps=40))
    TASK.prepare(folder, settings=settings)
    return folder


@pytest.fixture
def score(task):
    """Return a function that scores an answer with transformers."""
    tokenizer = AutoTokenizer.from_pretrained(task / "reward_model")
    model = AutoModelForSequenceClassification.from_pretrained(task / "reward_model")

    def scored(prompt: str, answer: str) -> float:
        chat = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        ids = tokenizer(tokenizer.apply_chat_template(chat, tokenize=False), add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            return model(torch.tensor([ids])).logits.item()

    return scored


def test_the_learned_reward_of_a_run_is_that_of_transformers(start, workplace, task, score, tmp_path):
    recipe = ["+recipe=rlhf/length_bias_cpu", f"trainer.total_training_steps={STEPS}"]
    start(COMMAND, "train", *recipe, f"trainer.rollout_data_dir={tmp_path}").output()
    records = [json.loads(line) for line in (workplace / "runs" / "latest" / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(STEPS + 1))
    for record in records[1:]:
        rows = [json.loads(line) for line in (tmp_path / f"{record['step']}.jsonl").read_text().splitlines()]
        assert len(rows) == 96 and pstdev(row["score"] for row in rows) > 0.1
        for row in rows:
            prompt = row["input"].removeprefix("user ").removesuffix(" assistant")
            assert row["score"] == pytest.approx(score(prompt, row["output"]), abs=1e-4)
        answers = [(row["gts"].split(), row["output"].split()) for row in rows]
        assert record["critic/score/mean"] == pytest.approx(fmean(row["score"] for row in rows), abs=1e-5)
        assert record["reward/quality/mean"] == pytest.approx(fmean(quality(*answer) for answer in answers))
        assert record["reward/words/mean"] == pytest.approx(fmean(len(words) for _, words in answers))
        assert record["training/rollout_probs_diff_mean"] < 1e-4
        assert record["reward/error_rate"] == 0.0
