"""YAML files that the configuration names: the agent loops and the tools."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from reinforcepp_verl.common import yaml_file
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import value


def check(config: DictConfig) -> list[str]:
    """Check that each can be parsed; verl looks for a relative path in its own folder too, so it may be elsewhere."""
    found = []
    for key in (keys.AGENT_LOOP_CONFIG_PATH, keys.MULTI_TURN_TOOL_CONFIG_PATH):
        given = value(config, key)
        if isinstance(given, str) and (file := Path(given)).is_file():
            try:
                yaml_file.check(file, is_mapping=False)
            except yaml_file.UnsoundYamlError as error:
                found.append(f"{key} is {given}: {error}")
    return found
