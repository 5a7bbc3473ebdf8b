"""References (`${...}`) that cannot be resolved, or should not be."""

from __future__ import annotations

import re

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from reinforcepp_verl.common.wording import first_line
from reinforcepp_verl.config.schema import as_tree, text_values
from reinforcepp_verl.preflight import reference_sizes

_NOT_FOUND = re.compile(r"Interpolation key '(.+)' not found")


def check(config: DictConfig) -> list[str]:
    """Resolve every reference; one that fails only because it refers to a failing one is not reported."""
    tree = as_tree(config)
    return reference_sizes.check(tree) or [
        f"{key}={text}: {reason}; correct the reference"
        for key, text in text_values(tree)
        if "${" in text and (reason := _failure(config, key)) and _is_its_own(text, reason)
    ]


def _failure(config: DictConfig, key: str) -> str | None:
    try:
        OmegaConf.select(config, key)
    except OmegaConfBaseException as error:
        return first_line(error)
    return None


def _is_its_own(text: str, reason: str) -> bool:
    missing = _NOT_FOUND.search(reason)
    return missing is None or missing[1] in text
