"""A user's own estimator and loss through our command, and our estimator and loss in a user's own verl script."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

pytestmark = pytest.mark.e2e

COMMAND = Path(sys.executable).with_name("reinforcepp")
RECIPE = "+recipe=math_rlvr/arithmetic"
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
POLICY_LOSS = "actor_rollout_ref.actor.policy_loss"
STEPS = 3
SHORT = [f"trainer.total_training_steps={STEPS}", "trainer.val_before_train=false", "trainer.test_freq=-1"]
SOMETIMES_NAN = """
import random
def compute_score(data_source, solution_str, ground_truth, extra_info=None, **_):
    score = float(solution_str.strip() == ground_truth.strip())
    return float("nan") if random.random() < 0.1 else score
"""
# A script of somebody who uses verl without us: verl's configuration, trainer, replay buffer and reward manager.
VERL_SCRIPT = [
    *(sys.executable, "-m", "verl.trainer.main_ppo"),
    "data.train_files=data/arithmetic/train.parquet",
    "data.val_files=data/arithmetic/val.parquet",
    *("data.train_batch_size=24", "data.max_prompt_length=16", "data.max_response_length=8"),
    *("actor_rollout_ref.model.path=data/arithmetic/model", "actor_rollout_ref.actor.optim.lr=3e-4"),
    *("actor_rollout_ref.actor.ppo_mini_batch_size=12", "actor_rollout_ref.actor.use_dynamic_bsz=true"),
    *("actor_rollout_ref.rollout.name=vllm", "actor_rollout_ref.rollout.tensor_model_parallel_size=1"),
    *("actor_rollout_ref.rollout.n=4", "actor_rollout_ref.rollout.max_model_len=64"),
    "reward.custom_reward_function.path=pkg://reinforcepp_verl.rewards.arithmetic",
    *("algorithm.use_kl_in_reward=true", "critic.enable=false", "trainer.logger=[console,file]"),
]
THE_LINES_OF_THE_README = ["algorithm.adv_estimator=reinforcepp", f"{POLICY_LOSS}.loss_mode=reinforcepp"]


def test_the_examples_of_the_docs_train(start, workplace, tmp_path):
    reward = tmp_path / "sometimes_nan.py"
    reward.write_text(SOMETIMES_NAN)
    process = start(
        *(COMMAND, "train", RECIPE, *SHORT, f"runs_dir={tmp_path}"),
        *(
            "algorithm.adv_estimator=group_returns",
            f"{POLICY_LOSS}.loss_mode=spo",
            f"{POLICY_LOSS}.options.epsilon=0.3",
        ),
        *("algorithm.reinforcepp.nonfinite=drop", "guards.max_kl=10", f"reward.custom_reward_function.path={reward}"),
        PYTHONPATH=str(EXAMPLES),
        VERL_USE_EXTERNAL_MODULES="my_estimator,my_loss",
    )
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    run = tmp_path / "latest"
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(1, STEPS + 1))
    for record in records:
        assert record["group_returns/largest_baseline"] > 0
        assert record["spo/epsilon"] == pytest.approx(0.3)
        assert record["spo/penalty"] > 0 and record["actor/grad_norm"] > 0
        assert all(math.isfinite(value) for value in record.values()), record
    assert sum(record["reinforcepp/dropped_rows/sum"] for record in records) > 0
    forwarded = OmegaConf.load(run / "config.yaml").ray_kwargs.ray_init.runtime_env.env_vars
    assert forwarded.VERL_USE_EXTERNAL_MODULES == "my_estimator,my_loss" and forwarded.PYTHONPATH == str(EXAMPLES)


def test_two_lines_turn_a_verl_script_into_reinforcepp(start, tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    process = start(
        *(*VERL_SCRIPT, "+cluster=cpu", f"trainer.default_local_dir={tmp_path}", *SHORT),
        *THE_LINES_OF_THE_README,
        VERL_FILE_LOGGER_PATH=str(metrics),
    )
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-5000:]
    records = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(1, STEPS + 1))
    for record in (record["data"] for record in records):
        # The KL was in the reward, the advantages are normalised over the batch, and the loss is ours.
        assert "actor/reward_kl_penalty" in record
        assert record["critic/advantages/mean"] == pytest.approx(0, abs=1e-4)
        assert record["critic/advantages/max"] > record["critic/advantages/min"]
        assert "actor/zero_weight_tokens" in record and record["actor/grad_norm"] > 0
