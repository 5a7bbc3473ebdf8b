"""Typed reading of the config nodes that verl does not have: `algorithm.reinforcepp` and our sampler's options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from reinforcepp_verl.algorithm.options import NODE, ReinforceppOptions, option_types


def read_options(node: DictConfig | Mapping[str, Any] | None) -> ReinforceppOptions:
    """Check the node `algorithm.reinforcepp` strictly and convert it; absent keys take their default.

    Raises:
        ValueError: an unknown key, or a value that is not valid; the message names the key and what is valid
    """
    # A plain dict, because OmegaConf lets a typed node keep keys that its class does not have.
    given = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    if given is None:
        return ReinforceppOptions()
    if not isinstance(given, Mapping):
        raise ValueError(f"{NODE} is {given!r}: it must be a mapping with the keys {', '.join(option_types())}")
    try:
        typed = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ReinforceppOptions), dict(given)))
    except OmegaConfBaseException as error:
        reason, key, valid = str(error).splitlines()[0], str(error.full_key), option_types()
        wanted = f"it must be a {valid[key]}" if key in valid else f"valid keys: {', '.join(valid)}"
        raise ValueError(f"{NODE}.{key}: {reason}; {wanted}") from None
    assert isinstance(typed, ReinforceppOptions)
    return typed


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
