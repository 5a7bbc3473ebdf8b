"""The node `trainer.v1.sampler.sampler_kwargs`."""

from __future__ import annotations

from dataclasses import dataclass

from reinforcepp_verl.config.guard_options import GuardOptions


@dataclass
class SamplerOptions:
    """The node `trainer.v1.sampler.sampler_kwargs`: our replay buffer."""

    poll_interval_s: float = 0.05
    """Seconds between two polls for finished rollouts."""
    stall_deadline_s: float = 1800.0
    """Seconds without a finished rollout after which the run stops."""
    max_failed_fraction: float = 0.0
    """Share of a batch's prompt groups that may fail before the run stops, in the synchronous trainer."""
    hang_deadline_s: float = GuardOptions.hang_deadline_s
    """`guards.hang_deadline_s`: the sampler starts the watchdog of the run's processes. verl passes only these options
    to a custom sampler, so reinforcepp_trainer.yaml forwards this one and all below."""
    step_deadline_s: float | None = GuardOptions.step_deadline_s
    """`guards.step_deadline_s`."""
    filter_groups: bool = False
    """`algorithm.filter_groups.enable`."""
    filter_groups_metric: str | None = None
    """`algorithm.filter_groups.metric`."""
    train_batch_size: int | None = None
    """`data.train_batch_size`."""
    gen_batch_size: int | None = None
    """`data.gen_batch_size`."""
    max_inflight_gen_batches: int = 1
    """`algorithm.filter_groups.max_inflight_gen_batches`."""
    sync_refill_failed_groups: bool = False
    """`trainer.v1.sampler.sync_refill_failed_groups`."""
