"""The node `preflight`: names of warnings that do not exist."""

from __future__ import annotations

from omegaconf import DictConfig

from reinforcepp_verl.config import keys
from reinforcepp_verl.config.nodes import read_preflight
from reinforcepp_verl.config.reading import value


def check(config: DictConfig) -> list[str]:
    """Check the names in `preflight.allow`."""
    if value(config, keys.PREFLIGHT) is None:
        return [f"{keys.PREFLIGHT} is null: remove this setting to use the defaults"]
    try:
        read_preflight(config)
    except ValueError as error:
        return [str(error)]
    return []
