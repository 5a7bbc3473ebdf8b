"""The node `trainer.v1.sampler.sampler_kwargs`."""

from __future__ import annotations

from dataclasses import dataclass

from reinforcepp_verl.config.guard_options import GuardOptions


@dataclass
class SamplerOptions:
    """The node `trainer.v1.sampler.sampler_kwargs`."""

    poll_interval_s: float = 0.05
    """Seconds between two looks at the rollouts in flight."""
    stall_deadline_s: float = 1800.0
    """Seconds without any rollout finishing after which the run stops."""
    max_failed_fraction: float = 0.0
    """Share of a batch's prompt groups that may fail before the run stops, in the synchronous trainer."""
    hang_deadline_s: float = GuardOptions.hang_deadline_s
    """The sampler starts the watch over the run's processes. The base YAML hands the two deadlines of `guards` on."""
    step_deadline_s: float | None = GuardOptions.step_deadline_s
    filter_groups: bool = False
    """verl passes a custom sampler neither this nor the options below; the base YAML hands them on by interpolation."""
    filter_groups_metric: str | None = None
    train_batch_size: int | None = None
    gen_batch_size: int | None = None
    max_inflight_gen_batches: int = 1
    sync_refill_failed_groups: bool = False
