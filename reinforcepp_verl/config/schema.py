"""The keys that a configuration may have: those of the composed base, of our overlays, and of verl's dataclasses."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.types import RunMode
from omegaconf import Container, DictConfig, OmegaConf, open_dict

from reinforcepp_verl.config import keys, search_path
from reinforcepp_verl.config.math_reward_options import MathRewardOptions
from reinforcepp_verl.config.reading import FSDP_ENGINE

Tree = dict[str, Any]

BASE = "reinforcepp_trainer"
WITHOUT_MACHINE = "~cluster"
"""Composes the same keys on every machine."""


@functools.cache
def known_keys(model_engine: str | None = None) -> Tree:
    """Return the keys of the base, of our reward's options, and of hydra_configs/{method,cluster,preset}; unresolved.

    A key that is null or empty here may have any value.
    """
    tree = as_tree(base(model_engine or FSDP_ENGINE))
    reward_options = OmegaConf.create()
    OmegaConf.update(reward_options, keys.REWARD_KWARGS, OmegaConf.structured(MathRewardOptions))
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


@functools.cache
def dataclass_fields(target: str) -> frozenset[str]:
    """Return the fields of a verl dataclass named by `_target_`, read from verl's source: importing verl takes seconds.

    verl instantiates the dataclass from such a node, so its fields are valid keys even if no YAML file lists them.
    """
    package, _, name = target.rpartition(".")
    path = search_path.verl_config_dir().parents[1].joinpath(*package.split(".")[1:])
    files = [path.with_suffix(".py")] if path.with_suffix(".py").is_file() else sorted(path.glob("*.py"))
    classes = {node.name: node for file in files for node in _classes(file)}
    return frozenset(_fields(name, classes))


@functools.cache
def _classes(file: Path) -> list[ast.ClassDef]:
    return [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]


def _fields(name: str, classes: dict[str, ast.ClassDef]) -> set[str]:
    if name not in classes:
        return set()
    node = classes[name]
    own = {
        item.target.id for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }
    return own.union(*(_fields(base.id, classes) for base in node.bases if isinstance(base, ast.Name)))
