"""Typed reading of the config nodes that verl does not have: the estimators', the sampler's, and `reward_errors`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from reinforcepp_verl.algorithm.options import NODE, ReinforceppOptions, option_types
from reinforcepp_verl.config.guard_options import GUARDS_NODE, GuardOptions

Options = TypeVar("Options")


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


ERRORS_NODE = "reward_errors"


@dataclass
class RewardErrorOptions:
    """The node `reward_errors`: answers that the reward function could not score."""

    score: float = 0.0
    """Their score. -1 makes them wrong answers on the scale `plus_minus_one`; NaN, with
    `algorithm.reinforcepp.nonfinite=drop`, takes them out of the training."""
    max_rate: float = 0.1
    """Share of a batch's answers, in training and in validation, above which the run stops; 1 for never."""
    min_count: int = 5
    """The run stops once batches above `max_rate`, one after the other, have this many errors together: one error in a
    batch of four answers is no reason to."""

    def __post_init__(self) -> None:
        if math.isinf(self.score):
            raise ValueError(f"{ERRORS_NODE}.score is {self.score}: it must be a finite number, or nan")
        if not 0 <= self.max_rate <= 1:
            raise ValueError(f"{ERRORS_NODE}.max_rate is {self.max_rate}: it must be from 0 to 1, where 1 never stops")
        if self.min_count < 1:
            raise ValueError(f"{ERRORS_NODE}.min_count is {self.min_count}: it must be 1 or more")


def read_reward_errors(config: DictConfig) -> RewardErrorOptions:
    """Return the node `reward_errors`; see `_read`."""
    return _read(config, ERRORS_NODE, RewardErrorOptions)


def read_guards(config: DictConfig) -> GuardOptions:
    """Return the node `guards`; see `_read`."""
    return _read(config, GUARDS_NODE, GuardOptions)


def _read(config: DictConfig, node: str, options: type[Options]) -> Options:
    """Return a node of a configuration as its class; where there is none, the defaults.

    Raises:
        ValueError: a value that is not valid; the message names the key and what is valid
    """
    given = OmegaConf.select(config, node)
    typed = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(options), given or {}))
    assert isinstance(typed, options)
    return typed
