"""Typed reading of the config nodes that verl does not have: the estimators', the sampler's, and `reward_errors`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from reinforcepp_verl.algorithm.options import ReinforceppOptions, option_types
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.guard_options import GuardOptions
from reinforcepp_verl.config.reward_error_options import RewardErrorOptions

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
        raise ValueError(
            f"{keys.REINFORCEPP} is {given!r}: it must be a mapping with the keys {', '.join(option_types())}"
        )
    try:
        typed = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ReinforceppOptions), dict(given)))
    except OmegaConfBaseException as error:
        reason, key, valid = str(error).splitlines()[0], str(error.full_key), option_types()
        wanted = f"it must be a {valid[key]}" if key in valid else f"valid keys: {', '.join(valid)}"
        raise ValueError(f"{keys.REINFORCEPP}.{key}: {reason}; {wanted}") from None
    assert isinstance(typed, ReinforceppOptions)
    return typed


def read_reward_errors(config: DictConfig) -> RewardErrorOptions:
    """Return the node `reward_errors`; see `_read`."""
    return _read(config, keys.REWARD_ERRORS, RewardErrorOptions)


def read_guards(config: DictConfig) -> GuardOptions:
    """Return the node `guards`; see `_read`."""
    return _read(config, keys.GUARDS, GuardOptions)


def _read(config: DictConfig, node: str, options: type[Options]) -> Options:
    """Return a node of a configuration as its class; where there is none, the defaults.

    Raises:
        ValueError: a value that is not valid; the message names the key and what is valid
    """
    given = OmegaConf.select(config, node)
    typed = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(options), given or {}))
    assert isinstance(typed, options)
    return typed
