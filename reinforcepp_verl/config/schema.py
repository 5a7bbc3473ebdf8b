"""The keys that a configuration may have: those of the composed base, of our overlays, and of verl's dataclasses."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any, cast

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.types import RunMode
from omegaconf import Container, DictConfig, OmegaConf, open_dict

from reinforcepp_verl.config import keys, search_path
from reinforcepp_verl.config.math_reward_options import MathRewardOptions
from reinforcepp_verl.config.reading import FSDP_ENGINE
from reinforcepp_verl.config.reasoning_gym_reward_options import ReasoningGymRewardOptions

Tree = dict[str, Any]

BASE = "reinforcepp_trainer"
REFERENCE = re.compile(r"\$\{(?:oc\.select:)?([\w.]+)")
WITHOUT_MACHINE = "~cluster"
"""Composes the same keys on every machine."""


@functools.cache
def known_keys(model_engine: str | None = None) -> Tree:
    """Return the keys of the base, of our rewards' options, and of hydra_configs/{method,cluster,preset}; unresolved.

    A key that is null or empty here may have any value.
    """
    tree = as_tree(base(model_engine or FSDP_ENGINE))
    reward_options = OmegaConf.create()
    for options in (MathRewardOptions, ReasoningGymRewardOptions):
        OmegaConf.update(reward_options, keys.REWARD_KWARGS, OmegaConf.to_container(OmegaConf.structured(options)))
    _add_keys(tree, as_tree(reward_options))
    for group in ("method", "cluster", "preset"):
        for file in sorted((search_path.config_dir() / group).glob("*.yaml")):
            overlay = as_tree(OmegaConf.load(file))
            _add_keys(tree, {key: value for key, value in overlay.items() if key not in ("defaults", "hydra")})
    return tree


@functools.cache
def base(model_engine: str) -> DictConfig:
    """Compose the base without a recipe and without a machine; not to be changed."""
    engine = [] if model_engine == FSDP_ENGINE else [f"model_engine={model_engine}"]
    return compose_base(WITHOUT_MACHINE, *engine)


def base_value(key: str) -> Any:
    """Return the value of a key in the base, without a recipe and without a machine."""
    return OmegaConf.select(base(FSDP_ENGINE), key)


def reference(key: str) -> str | None:
    """Return the key that a key of the base refers to, None if its value is no reference."""
    parent, _, name = key.rpartition(".")
    if parent and (referred := reference(parent)):
        return f"{referred}.{name}"
    node = OmegaConf.select(base(FSDP_ENGINE), parent) if parent else base(FSDP_ENGINE)
    if not isinstance(node, DictConfig) or name not in node or not OmegaConf.is_interpolation(node, name):
        return None
    found = REFERENCE.match(OmegaConf.to_container(node, resolve=False)[name])  # type: ignore[index,call-overload]
    return found[1] if found else None


def base_node(key: str) -> Tree:
    """Return a node of the base as plain dicts, its references resolved."""
    return resolved(base(FSDP_ENGINE), key)


def resolved(config: DictConfig, key: str) -> Tree:
    """Return a node as plain dicts, its references resolved."""
    return cast(Tree, OmegaConf.to_container(OmegaConf.select(config, key), resolve=True))


def leaves(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of everything in a tree that is not a node with keys."""
    for name, content in tree.items():
        if isinstance(content, dict) and content:
            yield from leaves(content, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", content


def compose_base(*overrides: str) -> DictConfig:
    """Compose the base configuration with overrides of ours.

    Uses a new loader: that of the running application also sees the user's --config-dir, where a file may have the same
    name as ours.
    """
    search_path.register()
    loader = ConfigLoaderImpl(create_config_search_path(None))
    config = loader.load_configuration(BASE, list(overrides), RunMode.RUN, from_shell=False)
    with open_dict(config):
        del config["hydra"]
    return config


def as_tree(config: Container) -> Tree:
    """Convert a config to plain dicts, with references unresolved."""
    return cast(Tree, OmegaConf.to_container(config, resolve=False))


def text_values(node: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted key and the value of every text in a tree."""
    if isinstance(node, dict):
        for name, content in node.items():
            yield from text_values(content, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(node, list):
        for index, content in enumerate(node):
            yield from text_values(content, f"{prefix}[{index}]")
    elif isinstance(node, str):
        yield prefix, node


def _add_keys(tree: Tree, overlay: Tree) -> None:
    for key, value in overlay.items():
        if isinstance(value, dict):
            if not isinstance(tree.get(key), dict):
                tree[key] = {}
            _add_keys(tree[key], value)
        else:
            tree.setdefault(key, value)


def dotted_keys(tree: Tree, prefix: str = "") -> list[str]:
    """List every key of a tree in dotted form, including inner nodes."""
    found = []
    for key, value in tree.items():
        found.append(f"{prefix}{key}")
        if isinstance(value, dict):
            found += dotted_keys(value, f"{prefix}{key}.")
    return found
