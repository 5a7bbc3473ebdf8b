"""verl's replay buffer with a fast poll and a deadline (hook: trainer.v1.sampler.custom_sampler).

verl looks for finished rollouts every 2 s, which on a small job costs more than the rollouts, and it waits for ever, so
that a dead or hung engine hangs the run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer, ReplayBufferAsync

from reinforcepp_verl.engine_watch import EngineWatch


@dataclass
class SamplerOptions:
    """The node `trainer.v1.sampler.sampler_kwargs`."""

    poll_interval_s: float = 0.05
    """Seconds between two looks at the rollouts in flight."""
    stall_deadline_s: float = 1800.0
    """Seconds without any rollout finishing after which the run stops."""
    engine_deadline_s: float = 30.0
    """Seconds without a healthy answer from a vLLM server after which the run stops."""
    filter_groups: bool = False
    """verl passes a custom sampler neither this nor the options below; the base YAML hands them on by interpolation."""
    filter_groups_metric: str | None = None
    train_batch_size: int | None = None
    gen_batch_size: int | None = None
    max_inflight_gen_batches: int = 1
    sync_refill_failed_groups: bool = False


class StalledRolloutError(RuntimeError):
    """No rollout finished within `stall_deadline_s`."""


class _Deadline:
    """Mixin: raise when the set of finished rollouts has not changed for too long."""

    stall_deadline_s: float

    def _wait_for_next_poll(self, partition_id: str, last_debug_time: float) -> float:
        self._check_progress(partition_id)
        return super()._wait_for_next_poll(partition_id, last_debug_time)  # type: ignore[misc]

    def _check_progress(self, partition_id: str) -> None:
        progress = (
            partition_id,
            len(self.partitions[partition_id]),  # type: ignore[attr-defined]
            len(self.finished_keys[partition_id]),  # type: ignore[attr-defined]
            len(self.failure_keys[partition_id]),  # type: ignore[attr-defined]
        )
        now = time.monotonic()
        if progress != getattr(self, "_last_progress", None):
            self._last_progress, self._last_progress_at = progress, now
        elif now - self._last_progress_at > self.stall_deadline_s:
            raise StalledRolloutError(
                f"no rollout has finished for {self.stall_deadline_s:.0f} s "
                f"(trainer.v1.sampler.sampler_kwargs.stall_deadline_s): "
                f"{len(self.pending_keys[partition_id])} groups pending, "  # type: ignore[attr-defined]
                f"{len(self.running_keys[partition_id])} running. The vLLM engine hangs or is gone."  # type: ignore[attr-defined]
            )


class SyncReplayBuffer(_Deadline, ReplayBuffer):
    """On-policy sampling (trainer_mode=sync)."""


class AsyncReplayBuffer(_Deadline, ReplayBufferAsync):
    """Sampling for colocate_async and separate_async."""


def ReinforceppReplayBuffer(*, trainer_mode: str, sampler_kwargs: DictConfig, **kwargs: Any) -> ReplayBuffer:  # noqa: N802
    """Build the buffer for the trainer's mode; verl calls this by its name, in place of a class."""
    options = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(SamplerOptions), sampler_kwargs))
    assert isinstance(options, SamplerOptions)
    buffer_class = SyncReplayBuffer if trainer_mode == "sync" else AsyncReplayBuffer
    metric = options.filter_groups_metric if options.filter_groups else None
    exact_refill = metric is not None or options.sync_refill_failed_groups
    buffer = buffer_class(
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
    # verl builds the buffer in the trainer's process, which is where a watch must be that ends the run.
    EngineWatch(options.engine_deadline_s).start()
    return buffer
