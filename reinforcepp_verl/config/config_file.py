"""Reads the config.yaml of a run, an attempt or a checkpoint; a damaged file is named in one line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from reinforcepp_verl.common import yaml_file

# libyaml's, which is many times faster, where PyYAML was built with it.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(path: Path) -> DictConfig:
    """Read a configuration.

    Raises:
        ValueError: the file is empty or damaged
        OSError: it cannot be read
    """
    try:
        yaml_file.check(path)
        config = OmegaConf.load(path)
    except yaml_file.UnsoundYamlError as error:
        raise ValueError(f"{error}, or restore it") from None
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, RecursionError) as error:
        raise _damaged(path, " ".join(str(error).split())) from error
    # OmegaConf takes a line of text for a key without a value.
    if not isinstance(config, DictConfig) or all(node is None for _, node in config.items_ex(resolve=False)):
        raise _damaged(path, "not a configuration")
    return config


def value(path: Path, key: str) -> Any:
    """Return the value of a dotted key, None if it is missing; parses only the top-level node that contains it.

    Raises:
        ValueError: the file is empty or damaged
        OSError: it cannot be read
    """
    node, *names = key.split(".")
    found = _top_level_node(path, node)
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    if found is None or (isinstance(found, str) and "${" in found):
        return OmegaConf.select(load(path), key)
    return found


def first_value(paths: Iterable[Path], key: str) -> Any:
    """Return `value` from the first of several files that has it; None if none has.

    Raises:
        ValueError: no file has it and one is damaged
    """
    damage: ValueError | None = None
    for path in paths:
        try:
            if path.is_file() and (found := value(path, key)) is not None:
                return found
        except ValueError as error:
            damage = damage or error
    if damage is not None:
        raise damage
    return None


def _top_level_node(path: Path, name: str) -> Any:
    text = path.read_bytes().decode(errors="replace")
    lines = re.search(rf"^{re.escape(name)}:.*\n?(?:[ \t#].*\n?|\n)*", text, re.MULTILINE)
    try:
        return yaml.load(lines[0], LOADER)[name] if lines else None
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


def _damaged(path: Path, reason: str) -> ValueError:
    return ValueError(f"{path}: not a readable config ({reason}); restore it")
