"""Typed reading of the config nodes that verl does not have: those of estimators and losses, `reward_errors`, etc."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from reinforcepp_verl.algorithm.options import ReinforceppOptions, option_types
from reinforcepp_verl.algorithm.registry import LOSSES
from reinforcepp_verl.algorithm.rollout_gate_options import RolloutGateOptions
from reinforcepp_verl.common.wording import did_you_mean, first_line
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.guard_options import GuardOptions
from reinforcepp_verl.config.preflight_options import PreflightOptions
from reinforcepp_verl.config.reward_error_options import RewardErrorOptions
from reinforcepp_verl.config.sample_options import SampleOptions

Options = TypeVar("Options")


def read_options(node: DictConfig | Mapping[str, Any] | None) -> ReinforceppOptions:
    """Check the node `algorithm.reinforcepp` and convert it; see `_read_strictly`."""
    return _read_strictly(node, keys.REINFORCEPP, ReinforceppOptions)


def read_loss_options(loss: str, node: DictConfig | Mapping[str, Any] | None) -> Any:
    """Check the options of a registered loss and convert them to its class; see `_read_strictly`.

    Raises:
        ValueError: also if the loss is not registered here, so that the options have no effect
    """
    if loss not in LOSSES:
        raise ValueError(
            f"{keys.LOSS_OPTIONS} is set, but {keys.LOSS_MODE} is {loss}, which does not read it; remove the options, "
            f"or set {keys.LOSS_MODE} to one of {', '.join(LOSSES)}"
        )
    try:
        return _read_strictly(node, keys.LOSS_OPTIONS, LOSSES[loss].options)
    except ValueError as error:
        # An error raised by the options' own class may not name the node.
        named = keys.LOSS_OPTIONS in str(error)
        raise ValueError(str(error) if named else f"{keys.LOSS_OPTIONS}: {error}") from None


def _read_strictly(node: DictConfig | Mapping[str, Any] | None, name: str, options: type[Options]) -> Options:
    """Convert a node to its class; absent keys take their default.

    Raises:
        ValueError: an unknown key or invalid value; the message names the key and what is valid
    """
    # A plain dict, because OmegaConf accepts keys in a typed node that its class does not have.
    given = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    if given is None:
        return options()
    valid = option_types(options)
    valid_keys = ", ".join(valid) or "none"
    if not isinstance(given, Mapping):
        raise ValueError(f"{name} is {given!r}: it must be a mapping with the keys {valid_keys}")
    try:
        typed = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(options), dict(given)))
    except OmegaConfBaseException as error:
        key = str(error.full_key)
        if key not in valid:
            meant = did_you_mean(key, valid)
            raise ValueError(f"{name}.{key}: unknown key{meant}; valid keys: {valid_keys}") from None
        raise ValueError(f"{name}.{key}: {first_line(error)}; it must be a {valid[key]}") from None
    assert isinstance(typed, options)
    return typed


def read_rollout_gate(config: DictConfig) -> RolloutGateOptions:
    """Return the node `algorithm.rollout_gate`; see `_read`."""
    return _read(config, keys.ROLLOUT_GATE, RolloutGateOptions)


def read_reward_errors(config: DictConfig) -> RewardErrorOptions:
    """Return the node `reward_errors`; see `_read`."""
    return _read(config, keys.REWARD_ERRORS, RewardErrorOptions)


def read_preflight(config: DictConfig) -> PreflightOptions:
    """Return the node `preflight`; see `_read`."""
    return _read(config, keys.PREFLIGHT, PreflightOptions)


def read_guards(config: DictConfig) -> GuardOptions:
    """Return the node `guards`; see `_read`."""
    return _read(config, keys.GUARDS, GuardOptions)


def read_samples(config: DictConfig) -> SampleOptions:
    """Return the node `samples`; see `_read`."""
    return _read(config, keys.SAMPLES, SampleOptions)


def _read(config: DictConfig, node: str, options: type[Options]) -> Options:
    """Return a node of a configuration as its class, or the defaults if it is missing.

    Raises:
        ValueError: an invalid value; the message names the key and what is valid
    """
    given = OmegaConf.select(config, node)
    typed = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(options), given or {}))
    assert isinstance(typed, options)
    return typed
