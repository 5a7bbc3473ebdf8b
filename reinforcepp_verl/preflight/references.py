"""References (`${...}`) that lead nowhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from reinforcepp_verl.preflight.schema import as_tree
from reinforcepp_verl.preflight.values import first_line

_NOT_FOUND = re.compile(r"Interpolation key '(.+)' not found")


def check(config: DictConfig) -> list[str]:
    """Resolve every reference; one that fails only because it refers to a failing one is not named."""
    return [
        f"{key}={text}: {reason}; correct the reference"
        for key, text in _references("", as_tree(config))
        if (reason := _failure(config, key)) and _is_its_own(text, reason)
    ]


def _references(prefix: str, node: Any) -> Iterator[tuple[str, str]]:
    """Yield the dotted key and the text of every value that has a reference in it."""
    if isinstance(node, dict):
        for name, content in node.items():
            yield from _references(f"{prefix}.{name}" if prefix else str(name), content)
    elif isinstance(node, list):
        for index, content in enumerate(node):
            yield from _references(f"{prefix}[{index}]", content)
    elif isinstance(node, str) and "${" in node:
        yield prefix, node


def _failure(config: DictConfig, key: str) -> str | None:
    try:
        OmegaConf.select(config, key)
    except OmegaConfBaseException as error:
        return first_line(error)
    return None


def _is_its_own(text: str, reason: str) -> bool:
    missing = _NOT_FOUND.search(reason)
    return missing is None or missing[1] in text
