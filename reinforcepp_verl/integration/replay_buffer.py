"""verl's replay buffer with a fast poll and a deadline (hook: trainer.v1.sampler.custom_sampler).

verl polls for finished rollouts every 2 s, which on a small job takes longer than the rollouts, and it has no deadline,
so a dead or hung engine hangs the run. Filtered groups never reach the trainer, which would not notice that nothing can
be scored.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from transfer_queue import KVBatchMeta
from verl.trainer import ppo
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer, ReplayBufferAsync

from reinforcepp_verl import integration
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.sampler_options import SamplerOptions
from reinforcepp_verl.guards.watchdog import Watchdog
from reinforcepp_verl.integration.greedy_answers import GreedyAnswers
from reinforcepp_verl.integration.reward_errors import RewardErrorMonitor, read_extra_fields, reward_infos

TRAINING_PACKAGES = (ppo, integration)
"""Packages with the code of the training loop."""
# Longer than any pause between two polls for the same batch, shorter than a training step that matters.
PAUSE_S = 5.0


class StalledRolloutError(RuntimeError):
    """No rollout finished within `stall_deadline_s`."""


class FailedRolloutError(RuntimeError):
    """More prompt groups failed than `max_failed_fraction` allows."""


class _StallDeadline(ReplayBuffer):
    """Raises when the set of finished rollouts has not changed for too long."""

    stall_deadline_s: float
    watchdog: Watchdog
    _last_progress: tuple | None = None
    _last_progress_at = 0.0
    _last_poll_at = 0.0

    def _wait_for_next_poll(self, partition_id: str, last_debug_time: float) -> float:
        self._check_progress(partition_id)
        with self.watchdog.waiting_for_rollouts():
            return super()._wait_for_next_poll(partition_id, last_debug_time)

    def _check_progress(self, partition_id: str) -> None:
        pending, running, finished, failed = (len(groups[partition_id]) for groups in self._groups_by_status())
        progress = (partition_id, len(self.partitions[partition_id]), finished, failed)
        now = time.monotonic()
        # There are no polls between two batches, and a training step must not count as waiting.
        polled_lately = now - self._last_poll_at < PAUSE_S + self.poll_interval
        self._last_poll_at = now
        if progress != self._last_progress or not polled_lately:
            self._last_progress, self._last_progress_at = progress, now
        elif now - self._last_progress_at > self.stall_deadline_s:
            raise StalledRolloutError(
                f"no rollout has finished for {self.stall_deadline_s:.0f} s "
                f"({keys.STALL_DEADLINE_S}): {pending} groups pending, {running} running. "
                f"{self._possible_reason()}"
            )

    def _possible_reason(self) -> str:
        unresponsive = "; ".join(self.watchdog.unresponsive())
        return unresponsive or "every process of the run answers: rollouts or the reward function take too long"

    def _groups_by_status(self) -> tuple[dict[str, set], ...]:
        return self.pending_keys, self.running_keys, self.finished_keys, self.failure_keys


class MonitoredReplayBuffer(_StallDeadline, GreedyAnswers):
    """Reports the groups that verl filters out (DAPO) to a monitor of reward errors, about one batch at a time.

    If no answer can be scored, all scores are equal, and verl would filter every group and generate indefinitely.
    """

    filtered_error_monitor: RewardErrorMonitor | None = None
    """Set by our trainer, which knows the options."""
    _filtered_groups = 0
    _filtered_rows: tuple[Mapping[str, Any], ...] = ()

    def _evict_terminal_groups(self, global_steps: int, partition_id: str, eviction_reasons: tuple) -> tuple:
        _, filtered_uids, _, _ = eviction_reasons
        if filtered_uids and self.filtered_error_monitor is not None:
            self._count_filtered(partition_id, filtered_uids, self.filtered_error_monitor)
        return super()._evict_terminal_groups(global_steps, partition_id, eviction_reasons)

    def _materialize_batch(
        self, partition_id: str, selected_prompt_uids: list[str], partition_snapshot: dict[str, dict]
    ) -> KVBatchMeta:
        """Sort the rows by the order in which the prompts were submitted; verl orders them by completion.

        The order decides which rows share a mini-batch, so verl's would make a run irreproducible.
        """
        place = {uid: number for number, uid in enumerate(self.prompt_global_steps[partition_id])}
        batch = super()._materialize_batch(partition_id, selected_prompt_uids, partition_snapshot)
        rows = sorted(zip(batch.keys, batch.tags, strict=True), key=lambda row: _row_order(row[0], place))
        return KVBatchMeta(partition_id=partition_id, keys=[key for key, _ in rows], tags=[tag for _, tag in rows])

    def _count_filtered(self, partition_id: str, uids: set[str], monitor: RewardErrorMonitor) -> None:
        tags = {key: tag for key, tag in self.partitions[partition_id].items() if key.split("_")[0] in uids}
        batch = KVBatchMeta(partition_id=partition_id, keys=list(tags), tags=list(tags.values()))
        rows = reward_infos(batch, read_extra_fields(batch))
        self._filtered_groups += len(uids)
        self._filtered_rows += tuple(rows)
        if self._filtered_groups >= (self.train_batch_size or 1):
            monitor.update(self._filtered_rows)
            self._filtered_groups, self._filtered_rows = 0, ()


def _row_order(key: str, place: Mapping[str, int]) -> tuple[int, int, int]:
    """Return the prompt's position, the session and the row in the session from verl's row key."""
    uid, session, row = key.rsplit("_", 2)
    return place[uid], int(session), int(row)


class SyncReplayBuffer(MonitoredReplayBuffer):
    """On-policy sampling (trainer_mode=sync)."""

    max_failed_fraction: float

    def _sampleable_terminal_keys(self, partition_id: str, eviction_reasons: tuple) -> set[str]:
        self._check_failures(partition_id)
        return super()._sampleable_terminal_keys(partition_id, eviction_reasons)

    def _check_failures(self, partition_id: str) -> None:
        """verl silently trains on the rest of a failed group; its async modes replace such groups."""
        failed = len(self.failure_keys[partition_id])
        groups = sum(len(uids[partition_id]) for uids in self._groups_by_status())
        if not self.sync_refill_failed_groups and failed > self.max_failed_fraction * groups:
            raise FailedRolloutError(
                f"{failed} of {groups} prompt groups failed in a rollout or in the reward function "
                f"({keys.MAX_FAILED_FRACTION}={self.max_failed_fraction})"
            )


class AsyncReplayBuffer(MonitoredReplayBuffer, ReplayBufferAsync):
    """Sampling for colocate_async and separate_async."""


def ReinforceppReplayBuffer(*, trainer_mode: str, sampler_kwargs: DictConfig, **kwargs: Any) -> ReplayBuffer:  # noqa: N802
    """Build the buffer for the trainer's mode; verl looks this up by name and calls it like a class."""
    options = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(SamplerOptions), sampler_kwargs))
    assert isinstance(options, SamplerOptions)
    buffer_class = SyncReplayBuffer if trainer_mode == "sync" else AsyncReplayBuffer
    metric = options.filter_groups_metric if options.filter_groups else None
    exact_refill = metric is not None or options.sync_refill_failed_groups
    buffer: MonitoredReplayBuffer = buffer_class(
        trainer_mode=trainer_mode,
        sampler_kwargs=sampler_kwargs,
        poll_interval=options.poll_interval_s,
        filter_groups_metric=metric,
        sync_refill_failed_groups=options.sync_refill_failed_groups,
        train_batch_size=options.train_batch_size,
        gen_batch_size=1 if exact_refill else (options.gen_batch_size or options.train_batch_size),
        max_inflight_gen_batches=options.max_inflight_gen_batches,
        **kwargs,
    )
    buffer.stall_deadline_s = options.stall_deadline_s
    if isinstance(buffer, SyncReplayBuffer):
        buffer.max_failed_fraction = options.max_failed_fraction
    # verl builds the buffer in the trainer's process, which is the one that the watchdog has to end.
    buffer.watchdog = Watchdog(options.hang_deadline_s, options.step_deadline_s, TRAINING_PACKAGES)
    buffer.watchdog.start()
    return buffer
