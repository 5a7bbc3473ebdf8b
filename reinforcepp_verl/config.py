"""Options of REINFORCE++ that verl does not have: the node `algorithm.reinforcepp`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

NODE = "algorithm.reinforcepp"


@dataclass
class ReinforceppConfig:
    """Typed form of `algorithm.reinforcepp`."""

    variance_floor: float = 1e-8
    """Lower bound of the batch variance before its square root is divided by (OpenRLHF `var.clamp(min=1e-8)`)."""

    unbiased_variance: bool = False
    """False: population variance (OpenRLHF). True: Bessel-corrected variance (verl)."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.variance_floor) and self.variance_floor > 0):
            raise ValueError(f"{NODE}.variance_floor is {self.variance_floor}: it must be finite and > 0")

    @classmethod
    def from_node(cls, node: DictConfig | Mapping[str, Any] | None) -> ReinforceppConfig:
        """Check a config node strictly and convert it; absent keys take their default."""
        # A plain dict, because OmegaConf lets a typed node keep keys that its class does not have.
        options = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
        if options is None:
            return cls()
        if not isinstance(options, Mapping):
            raise ValueError(f"{NODE} is {options!r}: it must be a mapping with the keys {_valid_keys()}")
        try:
            typed = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), dict(options)))
        except OmegaConfBaseException as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{NODE}.{error.full_key}: {reason}; valid keys: {_valid_keys()}") from None
        assert isinstance(typed, cls)
        return typed


def _valid_keys() -> str:
    return ", ".join(field.name for field in fields(ReinforceppConfig))


@dataclass
class SamplerOptions:
    """The node `trainer.v1.sampler.sampler_kwargs`."""

    poll_interval_s: float = 0.05
    """Seconds between two looks at the rollouts in flight."""
    stall_deadline_s: float = 1800.0
    """Seconds without any rollout finishing after which the run stops."""
    engine_deadline_s: float = 30.0
    """Seconds without a healthy answer from a vLLM server after which the run stops."""
    max_failed_fraction: float = 0.0
    """Share of a batch's prompt groups that may fail before the run stops, in the synchronous trainer."""
    filter_groups: bool = False
    """verl passes a custom sampler neither this nor the options below; the base YAML hands them on by interpolation."""
    filter_groups_metric: str | None = None
    train_batch_size: int | None = None
    gen_batch_size: int | None = None
    max_inflight_gen_batches: int = 1
    sync_refill_failed_groups: bool = False
