"""verl's trainers, with the additional inputs of registered estimators (hook: `register_trainer`).

Registered as `reinforcepp_sync`, `reinforcepp_colocate_async` and `reinforcepp_separate_async`, set by
`trainer.v1.trainer_mode`. With verl's own estimators they only add checkpoints, guards and the watchdog.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import torch
import transfer_queue as tq
from omegaconf import DictConfig, OmegaConf
from tensordict import TensorDict
from torch import Tensor
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_colocate_async import PPOTrainerColocateAsync
from verl.trainer.ppo.v1.trainer_separate_async import PPOTrainerSeparateAsync
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.debug import marked_timer

from reinforcepp_verl.algorithm.batch import NonFiniteRewardError
from reinforcepp_verl.algorithm.moments import Memory
from reinforcepp_verl.algorithm.options import ReinforceppOptions
from reinforcepp_verl.algorithm.registry import ESTIMATORS, uses_memory
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.nodes import read_guards, read_options, read_reward_errors, read_rollout_gate
from reinforcepp_verl.config.reading import TRAINER_PREFIX
from reinforcepp_verl.guards.metric_guards import MetricGuards
from reinforcepp_verl.integration import batch_context
from reinforcepp_verl.integration.batch_context import PaddingAwareKL
from reinforcepp_verl.integration.checkpointing import CheckpointingTrainer
from reinforcepp_verl.integration.reward_errors import (
    RewardErrorMonitor,
    read_extra_fields,
    reward_infos,
    validation_reward_infos,
)
from reinforcepp_verl.integration.reward_values import reward_values
from reinforcepp_verl.integration.rollout_gating import gate_weights
from reinforcepp_verl.integration.row_totals import (
    COLUMNS,
    RESPONSE_MASK,
    SCORE_MASK,
    SCORES,
    RowTotals,
    aligned,
    response_metrics,
    row_totals,
    without_rows,
)
from reinforcepp_verl.integration.sample_recorder import SampleRecorder, recorder_of, row_scores
from reinforcepp_verl.integration.score_columns import refuse_other_lengths, write_token_scores
from reinforcepp_verl.integration.worker_columns import TensorsForWorkers
from reinforcepp_verl.rewards.token_scores import TOKEN_SCORES_KEY

if TYPE_CHECKING:
    from transfer_queue import KVBatchMeta
    from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

    from reinforcepp_verl.integration.greedy_answers import GreedyAnswers

KL_PENALTY_METRIC = "actor/reward_kl_penalty"


class ReinforceppTrainer(TensorsForWorkers, CheckpointingTrainer):
    """Mixed into verl's trainers: non-finite rows, sessions, scores without KL, running state, metrics, samples."""

    samples: SampleRecorder | None = None
    """None if the run keeps none."""

    def __init__(self, config: DictConfig) -> None:
        self.options: ReinforceppOptions = read_options(OmegaConf.select(config, keys.REINFORCEPP))
        self.rollout_gate = read_rollout_gate(config)
        self.estimator_is_registered = config.algorithm.adv_estimator in ESTIMATORS
        self.memory = Memory()
        self.guards = MetricGuards(read_guards(config))
        self.error_monitor = RewardErrorMonitor(read_reward_errors(config))
        self.validation_error_monitor = RewardErrorMonitor(self.error_monitor.options)
        self.samples = recorder_of(config)
        super().__init__(config)
        if self.estimator_is_registered and config.algorithm.use_kl_in_reward:
            self.kl_ctrl_in_reward = PaddingAwareKL(self.kl_ctrl_in_reward)

    # verl compares the trainer's mode with the names of its own three modes.
    @property
    def trainer_mode(self) -> str:
        """verl's mode that this trainer extends."""
        return self._trainer_mode

    @trainer_mode.setter
    def trainer_mode(self, name: str) -> None:
        self._trainer_mode = name.removeprefix(TRAINER_PREFIX)

    def step(self, metrics: dict, timing_raw: dict) -> KVBatchMeta:
        batch = super().step(metrics, timing_raw)
        if self.samples is not None:
            with marked_timer("samples", timing_raw):
                self.samples.write(self.global_steps, batch.partition_id, self.tokenizer)
        metrics.update(self.guards.after_update(metrics))
        return batch

    def extra_metrics(self, metrics: dict[str, Any]) -> dict[str, Any]:
        return self.guards.after_step(metrics)

    def raise_if_tripped(self) -> None:
        self.guards.raise_if_tripped()

    def _build_replay_buffer(self) -> ReplayBuffer:
        from reinforcepp_verl.integration.replay_buffer import (
            MonitoredReplayBuffer,  # who imports it first imports this module with it
        )

        buffer = super()._build_replay_buffer()
        if isinstance(buffer, MonitoredReplayBuffer):
            buffer.filtered_error_monitor = RewardErrorMonitor(self.error_monitor.options)
            if self.samples is not None:
                self.samples.read_greedy_rows_of(buffer)
        return buffer

    def _val_metrics_update(
        self, data_sources: list, sample_uids: list, reward_extra_infos_dict: dict, *rest: Any, **kwargs: Any
    ) -> dict[str, float]:
        self.validation_error_monitor.update(validation_reward_infos(reward_extra_infos_dict))
        # verl averages every column that is not text.
        columns = {name: column for name, column in reward_extra_infos_dict.items() if name != TOKEN_SCORES_KEY}
        return super()._val_metrics_update(data_sources, sample_uids, columns, *rest, **kwargs)

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        extra_fields = read_extra_fields(batch)
        returned = reward_infos(batch, extra_fields)
        metrics.update(self.error_monitor.update(returned) | reward_values(returned))
        write_token_scores(batch, extra_fields)
        if not self.estimator_is_registered:
            if self.samples is not None:
                self.samples.add(batch, row_scores(batch))
            columns = _columns(batch)
            columns = {name: aligned(column, columns[RESPONSE_MASK]) for name, column in columns.items()}
            metrics.update(response_metrics(row_totals(columns)))
            return super()._compute_advantage(batch, metrics)
        columns = _columns(batch)
        refuse_other_lengths(batch, columns)
        columns = {name: aligned(column, columns[RESPONSE_MASK]) for name, column in columns.items()}
        totals = row_totals(columns)
        self._empty_non_finite_rows(batch, columns, totals)
        if self.samples is not None:
            self.samples.add(batch, totals.score, totals.is_non_finite)
        real_rows = int((totals.length > 0).sum())
        if self.config.algorithm.use_kl_in_reward:
            self.kl_ctrl_in_reward.real_rows = real_rows
        rejects = OmegaConf.select(self.config, keys.ROLLOUT_RS) is not None
        context = batch_context.BatchContext(
            columns[SCORES].to_padded_tensor(0.0),
            batch_context.session_index(batch.keys),
            self.memory,
            score_mask=columns[SCORE_MASK].to_padded_tensor(0) if SCORE_MASK in columns else None,
            sampled=columns[RESPONSE_MASK].to_padded_tensor(0) if rejects else None,
            greedy_score=self._greedy_scores(batch, metrics),
        )
        with batch_context.use_context(context):
            batch = super()._compute_advantage(batch, metrics)
        metrics.update(context.metrics | response_metrics(totals))
        if KL_PENALTY_METRIC in metrics and real_rows:
            metrics[KL_PENALTY_METRIC] *= len(batch) / real_rows
        metrics["reinforcepp/dropped_rows/sum"] = float(totals.is_non_finite.sum())
        if rejects:
            metrics["reinforcepp/rejected_tokens"] = _exclude_rejected_tokens(batch, int(totals.length.sum()))
        has_weights = OmegaConf.select(self.config, keys.ROLLOUT_IS) is not None
        metrics.update(gate_weights(batch, self.rollout_gate, has_weights=has_weights))
        return batch

    def _greedy_scores(self, batch: KVBatchMeta, metrics: dict) -> Tensor | None:
        """Return the score of the greedy answer to each row's prompt (B,), None if the estimator needs none.

        Raises:
            NonFiniteRewardError: one is NaN or infinite, and `nonfinite` is `raise`
            ValueError: no prompt has one
        """
        if not ESTIMATORS[self.config.algorithm.adv_estimator].traits.needs_greedy_answer:
            return None
        by_prompt = cast("GreedyAnswers", self.replay_buffer).greedy_scores
        bad = [uid for uid, score in by_prompt.items() if not math.isfinite(score)]
        if bad and self.options.nonfinite == "raise":
            raise NonFiniteRewardError(
                f"the greedy answers to {len(bad)} of {len(by_prompt)} prompts have a NaN or infinite score: look at "
                f"the reward function, or drop the answers to these prompts with {keys.NONFINITE}=drop"
            )
        known = {uid: score for uid, score in by_prompt.items() if uid not in bad}
        scores = torch.tensor([known.get(key.split("_")[0], math.nan) for key in batch.keys])
        real = torch.tensor([not tag.get("is_padding") for tag in batch.tags])
        missing = int((scores.isnan() & real).sum())
        if missing == real.sum():
            raise ValueError(
                f"none of the {len(by_prompt)} greedy answers belongs to a prompt of the batch: they failed, or the "
                "rollouts were saved without them; look for the first error of an agent loop in the log"
            )
        metrics["reinforcepp/rows_without_greedy_answer/sum"] = float(missing)
        return scores

    def _empty_non_finite_rows(self, batch: KVBatchMeta, columns: dict[str, Tensor], totals: RowTotals) -> None:
        """Empty the rows with a NaN or infinite score or log-probability, here and in the TransferQueue.

        Done before anything is computed: verl's KL controller and rollout weights would spread it over the batch.
        """
        bad = totals.is_non_finite
        if not bad.any():
            return
        if self.options.nonfinite == "raise":
            names = [key for key, is_bad in zip(batch.keys, bad.tolist(), strict=True) if is_bad]
            raise NonFiniteRewardError(
                f"{len(names)} of {len(bad)} answers have a NaN or infinite score or log-probability, the first is "
                f"{names[0]}: look at the reward function, or drop them with {keys.NONFINITE}=drop"
            )
        columns.update({name: without_rows(column, bad) for name, column in columns.items()})
        totals.length[bad] = 0
        emptied = {**columns, "loss_mask": columns[RESPONSE_MASK]}
        fields = TensorDict(emptied, batch_size=len(batch))
        tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=fields)

    def plugin_state(self) -> dict[str, Any]:
        """Return running statistics and KL coefficient, which verl does not save."""
        kl_coef = self.kl_ctrl_in_reward.value if self.config.algorithm.use_kl_in_reward else None
        return {"memory": self.memory.as_dict(), "kl_coef": kl_coef}

    def load_plugin_state(self, state: dict[str, Any]) -> None:
        """Restore both.

        Raises:
            ValueError: another trainer saved the checkpoint, without the state that the estimator needs
        """
        if state.get("memory") is not None:
            self.memory = Memory.from_dict(state["memory"])
        elif self.estimator_is_registered and uses_memory(self.config.algorithm.adv_estimator, self.options):
            raise ValueError(
                f"{keys.ADV_ESTIMATOR} is {self.config.algorithm.adv_estimator}: it keeps state across batches, which "
                "the checkpoint does not have, because verl's own trainer saved it; resume from a checkpoint of a "
                f"{TRAINER_PREFIX} trainer, or start from the model ({keys.RESUME_MODE}=disable)"
            )
        algorithm = self.config.algorithm
        # A fixed coefficient comes from the configuration, and so does one that was changed since then.
        adapted = algorithm.use_kl_in_reward and algorithm.kl_ctrl.type == "adaptive"
        if adapted and state.get("kl_coef") is not None and not self.changed_since_save(keys.KL_CTRL):
            self.kl_ctrl_in_reward.value = state["kl_coef"]


def _columns(batch: KVBatchMeta) -> dict[str, Tensor]:
    """Return those of `COLUMNS` that the batch has (B, ragged)."""
    found = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=list(COLUMNS))
    return {name: found[name] for name in COLUMNS if name in found}


def _exclude_rejected_tokens(batch: KVBatchMeta, tokens_before: int) -> float:
    """Return the share of tokens rejected by rollout correction, and remove them from the token-mean's denominator.

    verl divides by the tokens of `loss_mask`, which it sets once and does not update after a rejection.
    """
    kept = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=[RESPONSE_MASK])
    fields = TensorDict({"loss_mask": kept[RESPONSE_MASK]}, batch_size=len(batch))
    tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=fields)
    return 1.0 - kept[RESPONSE_MASK].values().sum().item() / tokens_before if tokens_before else 0.0


@register_trainer(f"{TRAINER_PREFIX}sync")
class ReinforceppSync(ReinforceppTrainer, PPOTrainerSync):
    """Rollout and training alternate; strictly on-policy batches."""


@register_trainer(f"{TRAINER_PREFIX}colocate_async")
class ReinforceppColocateAsync(ReinforceppTrainer, PPOTrainerColocateAsync):
    """Rollout and training alternate on the same devices, and unfinished answers are continued later."""


@register_trainer(f"{TRAINER_PREFIX}separate_async")
class ReinforceppSeparateAsync(ReinforceppTrainer, PPOTrainerSeparateAsync):
    """Rollout and training run concurrently on separate devices."""
