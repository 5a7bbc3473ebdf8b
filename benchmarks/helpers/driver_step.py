"""What the driver computes in a step, on made-up answers in a process of its own; prints seconds and memory.

    python benchmarks/helpers/driver_step.py ours 1024 8000

The rows lie in the memory of this process instead of verl's TransferQueue, so only the driver's own work is measured.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable
from typing import Annotated, Any

import torch
import typer
from omegaconf import OmegaConf
from tensordict import TensorDict
from tensordict.tensorclass import NonTensorStack
from torch import Tensor
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.core_algos import FixedKLController
from verl.trainer.ppo.v1 import trainer_base
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from reinforcepp_verl.algorithm.moments import Memory
from reinforcepp_verl.algorithm.options import ReinforceppOptions
from reinforcepp_verl.algorithm.rollout_gate_options import RolloutGateOptions
from reinforcepp_verl.config.reward_error_options import RewardErrorOptions
from reinforcepp_verl.integration import reward_errors, score_columns, trainers
from reinforcepp_verl.integration.batch_context import PaddingAwareKL
from reinforcepp_verl.integration.reward_errors import RewardErrorMonitor
from reinforcepp_verl.integration.row_totals import jagged

ESTIMATORS = {"ours": "reinforcepp", "verl": "reinforce_plus_plus"}
GROUP_SIZE = 8
TAG = {"min_global_steps": 0, "max_global_steps": 0}
REPORT = {"reward_extra_info": {"reward_error": 0.0, "reward_timeout": 0.0, "no_answer": 0.0}}


class QueueInMemory:
    """Stands where the trainers expect the TransferQueue's client."""

    def __init__(self, columns: dict[str, Any]) -> None:
        self.columns = columns

    def kv_batch_get(self, keys: list[str], partition_id: str, select_fields: list[str]) -> TensorDict:
        return TensorDict({n: self.columns[n] for n in select_fields if n in self.columns}, batch_size=len(keys))

    def kv_batch_put(self, keys: list[str], partition_id: str, fields: TensorDict) -> KVBatchMeta:
        self.columns |= dict(fields.items())
        return KVBatchMeta(keys=keys, tags=[{}] * len(keys), partition_id=partition_id)


def columns_of(answers: int, tokens: int, keys: list[str]) -> dict[str, Any]:
    """Create answers of up to `tokens` tokens, 7/8 of it on average, with a score on the last token."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(tokens * 3 // 4, tokens + 1, (answers,), generator=generator)
    ends = lengths.cumsum(0)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), ends])

    def nested(values: Tensor) -> Tensor:
        return jagged(values, offsets)

    total = int(ends[-1])
    scores = torch.zeros(total)
    scores[ends - 1] = torch.randint(0, 2, (answers,), generator=generator).float()
    logs = {name: torch.empty(total).uniform_(-2, 0, generator=generator) for name in ("old_log_probs", "ref_log_prob")}
    return {
        "uid": NonTensorStack(*(key.split("_")[0] for key in keys)),
        "extra_fields": NonTensorStack(*[REPORT] * answers),
        "response_mask": nested(torch.ones(total, dtype=torch.int64)),
        "rm_scores": nested(scores),
        **{name: nested(values) for name, values in logs.items()},
        "rollout_log_probs": nested(logs["old_log_probs"] + 0.01),
    }


def trainer_of(name: str) -> Any:
    """Return our trainer or verl's, with nothing but what the computation of advantages reads."""
    trainer_class = trainers.ReinforceppSync if name == "ours" else PPOTrainerSync
    trainer = trainer_class.__new__(trainer_class)
    algorithm = {"adv_estimator": ESTIMATORS[name], "gamma": 1.0, "lam": 1.0, "use_kl_in_reward": True}
    algorithm |= {"kl_penalty": "kl", "reinforcepp": {}, "rollout_correction": None}
    trainer.config = OmegaConf.create({"algorithm": algorithm, "actor_rollout_ref": {"rollout": {"n": GROUP_SIZE}}})
    trainer.kl_ctrl_in_reward = FixedKLController(0.001)
    if name == "ours":
        trainer.options, trainer.estimator_is_registered, trainer.memory = ReinforceppOptions(), True, Memory()
        trainer.rollout_gate = RolloutGateOptions()
        trainer.error_monitor = RewardErrorMonitor(RewardErrorOptions())
        trainer.kl_ctrl_in_reward = PaddingAwareKL(trainer.kl_ctrl_in_reward)
    return trainer


def metrics_trainer(queue: QueueInMemory, keys: list[str]) -> Any:
    """Return verl's trainer, ready to compute the metrics of a step, and add the columns that they read."""
    trainer = PPOTrainerSync.__new__(PPOTrainerSync)
    trainer.config = OmegaConf.create({"actor_rollout_ref": {"rollout": {}, "model": {"mtp": None}}})
    trainer._rollout_moe_lb_metrics_accumulator, trainer.use_critic = None, False
    trainer._get_n_gpus_for_throughput = lambda: 1
    mask = queue.columns["response_mask"]
    prompts = torch.nested.as_nested_tensor([torch.ones(64, dtype=torch.int64)] * len(keys), layout=torch.jagged)
    queue.columns |= {"prompts": prompts, "responses": mask, "num_turns": NonTensorStack(*[2] * len(keys))}
    queue.columns |= {name: queue.columns["old_log_probs"] for name in ("advantages", "returns", "token_level_rewards")}
    return trainer


def work_of(name: str, queue: QueueInMemory, keys: list[str]) -> Callable[[], Any]:
    """Return what is to be timed."""
    batch = KVBatchMeta(keys=keys, tags=[TAG] * len(keys), partition_id="train")
    if name == "metrics":
        trainer = metrics_trainer(queue, keys)
        return lambda: trainer._compute_metrics(batch, {}, dict.fromkeys(("step", "gen", "update_actor"), 1.0), 1, 0)
    trainer = trainer_of(name)
    return lambda: trainer._compute_advantage(batch, {})


def peak_bytes() -> int:
    """Return the largest resident memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(
    name: Annotated[str, typer.Argument(help="ours or verl: advantages; metrics: verl's metrics, the same for both.")],
    answers: Annotated[int, typer.Argument(help="Rows of the batch.")],
    tokens: Annotated[int, typer.Argument(help="Tokens of the longest answer.")],
) -> None:
    """Run the work once on a small batch and then measure it on the given one."""
    for rows in (GROUP_SIZE, answers):
        keys = [f"p{row // GROUP_SIZE}_{row % GROUP_SIZE}_0" for row in range(rows)]
        queue = QueueInMemory(columns_of(rows, tokens, keys))
        for module in (trainer_base, trainers, reward_errors, score_columns):
            module.tq = queue
        work = work_of(name, queue, keys)
        size = sum(column.values().nbytes for column in queue.columns.values() if isinstance(column, Tensor))
        before, started = peak_bytes(), time.perf_counter()
        work()
        seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "gb": size / 1e9, "memory": (peak_bytes() - before) / size}))


if __name__ == "__main__":
    typer.run(main)
