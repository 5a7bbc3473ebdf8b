"""Our estimator and loss in a user's own verl script, which learns."""

from __future__ import annotations

import json
import os
import sys

import pytest

from reinforcepp_verl.integration.cpu import fork_server, forked_python
from reinforcepp_verl.integration.cpu.environment import CPU_ENVIRONMENT

pytestmark = [pytest.mark.e2e, pytest.mark.long]

STEPS = 6
VAL_ACCURACY = "val-core/reinforcepp/arithmetic/acc/mean@1"
POLICY_LOSS = "actor_rollout_ref.actor.policy_loss"
# A user's script without this package: verl's configuration, trainer, replay buffer and reward manager.
VERL_SCRIPT = [
    *(sys.executable, "-m", "verl.trainer.main_ppo"),
    "data.train_files=data/arithmetic/train.parquet",
    "data.val_files=data/arithmetic/val.parquet",
    *("data.val_max_samples=256", "data.train_batch_size=24"),
    *("data.max_prompt_length=16", "data.max_response_length=8"),
    *("actor_rollout_ref.model.path=data/arithmetic/model", "actor_rollout_ref.actor.optim.lr=3e-4"),
    *("actor_rollout_ref.actor.ppo_mini_batch_size=12", "actor_rollout_ref.actor.use_dynamic_bsz=true"),
    *("actor_rollout_ref.rollout.name=vllm", "actor_rollout_ref.rollout.tensor_model_parallel_size=1"),
    *("actor_rollout_ref.rollout.n=4", "actor_rollout_ref.rollout.max_model_len=64"),
    "reward.custom_reward_function.path=pkg://reinforcepp_verl.rewards.arithmetic",
    *("algorithm.use_kl_in_reward=true", "critic.enable=false", "trainer.logger=[console,file]"),
]
THE_LINES_OF_THE_README = ["algorithm.adv_estimator=reinforcepp", f"{POLICY_LOSS}.loss_mode=reinforcepp"]


def test_two_lines_turn_a_verl_script_into_reinforcepp_and_it_learns(start, tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    length = [f"trainer.total_training_steps={STEPS}", f"trainer.test_freq={STEPS}"]
    # Ray's workers then need not import torch and vLLM.
    with fork_server.started({**os.environ, **CPU_ENVIRONMENT}) as stand_in:
        process = start(
            *(*VERL_SCRIPT, "+cluster=cpu", f"trainer.default_local_dir={tmp_path}", *length),
            *(*THE_LINES_OF_THE_README, f"+ray_kwargs.ray_init.runtime_env.py_executable={stand_in}"),
            **{forked_python.VARIABLE: stand_in, "VERL_FILE_LOGGER_PATH": str(metrics)},
        )
        process.output()
    records = {line["step"]: line["data"] for line in map(json.loads, metrics.read_text().splitlines())}
    assert list(records) == list(range(STEPS + 1))
    assert records[STEPS][VAL_ACCURACY] > records[0][VAL_ACCURACY]
    del records[0]
    for record in records.values():
        # The KL was in the reward, the advantages are normalized over the batch, and the loss is ours.
        assert "actor/reward_kl_penalty" in record
        assert record["critic/advantages/mean"] == pytest.approx(0, abs=1e-4)
        assert record["critic/advantages/max"] > record["critic/advantages/min"]
        assert "actor/zero_weight_tokens" in record and record["actor/grad_norm"] > 0
        # The rollout has the weights of the last update.
        assert record["training/rollout_probs_diff_mean"] < 1e-4
