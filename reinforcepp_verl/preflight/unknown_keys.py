"""Unknown and misspelled keys. Hydra rejects them only on the command line; in YAML files they are silently ignored."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from fnmatch import fnmatch

from omegaconf import DictConfig

from reinforcepp_verl.common.wording import nearest
from reinforcepp_verl.config import keys, search_path
from reinforcepp_verl.config.dataclass_source import REPLACED, fields_of
from reinforcepp_verl.config.machines import GROUP as CLUSTER
from reinforcepp_verl.config.nodes import read_options
from reinforcepp_verl.config.reading import FSDP_ENGINE, value
from reinforcepp_verl.config.schema import (
    REFERENCE,
    Tree,
    as_tree,
    base,
    base_value,
    dotted_keys,
    known_keys,
    text_values,
)
from reinforcepp_verl.preflight.legacy_keys import LEGACY_NODES

CONFIG_GROUPS = ("recipe", "method", CLUSTER, "preset", "reward_function")
# Where a name that several nodes have is most likely meant.
LIKELY_NODES = (keys.MODEL, "data", keys.ACTOR_OPTIM, keys.ACTOR, keys.ROLLOUT, keys.ALGORITHM, "trainer")
# Passed unchanged to a function or library outside this package.
FREE_NODES = (
    "*.override_config",
    "*.engine_kwargs.*",
    "*.runtime_env",
    keys.REWARD_KWARGS,
)


def check(config: DictConfig) -> list[str]:
    """Find config groups that Hydra took for plain keys, then unknown keys and keys that were removed."""
    groups = [_not_a_group(config, group) for group in CONFIG_GROUPS if group in config]
    return groups or [*_unknown_keys(config), *_removed_keys(config), *_own_node(config), *_sampler_options(config)]


def unknown_key(key: str, known: Tree) -> str:
    """Return the message: `algorithm.gama: unknown key; did you mean algorithm.gamma?`."""
    meant = _meant(key, known)
    if meant is None:
        return f"{key}: unknown key; remove it (`reinforcepp train --cfg job` prints the valid ones)"
    return f"{key}: unknown key; did you mean {meant}?"


def needs_plus(key: str) -> bool:
    """Return True for a key that verl's files do not list but that is read, so that Hydra wants a + before it."""
    parent, _, name = key.rpartition(".")
    if any(fnmatch(key, f"{pattern.removesuffix('.*')}.*") for pattern in FREE_NODES):
        return _beside(key, dotted_keys(known_keys())) is None
    node = base_value(parent) if parent else None
    return isinstance(node, DictConfig) and _accepted_by_reader(name, as_tree(node), f"{parent}.")


def _meant(key: str, known: Tree) -> str | None:
    """Guess: a config group, a similar key in the same node, the same key in a deeper node, the same name elsewhere."""
    if group := nearest(key, CONFIG_GROUPS):
        return f"{as_written(group)}=NAME"
    parent, _, name = key.rpartition(".")
    names = dotted_keys(known)
    ends = dict.fromkeys((key, name) if parent else (key,))
    if not parent and (elsewhere := _ending_in(key, names)):
        return elsewhere
    if near := _beside(key, names):
        return near
    return next((found for end in ends if (found := _ending_in(end, names))), None)


def _beside(key: str, known: list[str]) -> str | None:
    """Return the key of the same node with the most similar name."""
    parent, dot, name = key.rpartition(".")
    names = [last for node, _, last in (candidate.rpartition(".") for candidate in known) if node == parent]
    near = nearest(name, names)
    return f"{parent}{dot}{near}" if near else None


def _ending_in(end: str, known: list[str]) -> str | None:
    """Return the key that ends so; of several, that of the policy, of the sampling, or the least deep one."""
    found = [candidate for candidate in known if candidate.endswith(f".{end}") and not _is_legacy(candidate)]
    if len(found) == 1:
        return found[0]
    found.sort(key=lambda key: key.count("."))
    return next((key for node in LIKELY_NODES for key in found if _is_in(key, node)), None)


def _is_in(key: str, node: str) -> bool:
    return key.startswith(f"{node}.")


def _is_legacy(key: str) -> bool:
    return any(_is_in(key, node) for node in LEGACY_NODES)


def as_written(group: str) -> str:
    """Return a group as on the command line: the base has a cluster, which is replaced; the other groups are added."""
    return group if group == CLUSTER else f"+{group}"


def group_names(group: str) -> list[str]:
    """List the valid names after `+recipe=`, `cluster=` and so on."""
    if group == "recipe":
        return search_path.recipe_names()
    return sorted(path.stem for path in (search_path.config_dir() / group).glob("*.yaml"))


def _not_a_group(config: DictConfig, group: str) -> str:
    return (
        f"{group}={config[group]}: Hydra took this for a plain key, so no {group} was loaded; write "
        f"{as_written(group)}=NAME and start by `reinforcepp train`; known names: {', '.join(group_names(group))}"
    )


def _unknown_keys(config: DictConfig) -> Iterator[str]:
    known = known_keys(config.get(keys.MODEL_ENGINE))
    free = list(FREE_NODES)
    if not _own_sampler(config):
        free.append(keys.SAMPLER_KWARGS)
    # A key that another value refers to is used, as in `gpus: 8` and `n_gpus_per_node: ${gpus}`.
    tree = as_tree(config)
    used = {reference for _, text in text_values(tree) for reference in REFERENCE.findall(text)}
    for key in _walk(tree, known, "", free):
        if ":" in key:
            yield key
        elif not any(reference == key or reference.startswith(f"{key}.") for reference in used):
            yield unknown_key(key, known)


def _removed_keys(config: DictConfig) -> list[str]:
    expected = as_tree(base(config.get(keys.MODEL_ENGINE) or FSDP_ENGINE))
    return [f"{key}: it is removed, but read; leave out ~{key}" for key in _missing(as_tree(config), expected, "")]


def _missing(tree: Tree, expected: Tree, prefix: str) -> Iterator[str]:
    for name, content in expected.items():
        key = f"{prefix}{name}"
        if name not in tree:
            yield key
        elif (
            isinstance(content, dict) and isinstance(tree[name], dict) and not any(fnmatch(key, n) for n in FREE_NODES)
        ):
            yield from _missing(tree[name], content, f"{key}.")


def _walk(tree: Tree, known: Tree, prefix: str, free: list[str]) -> Iterator[str]:
    """Yield the dotted keys of `tree` missing in `known`, and a full message for each node that is not a mapping."""
    for name, content in tree.items():
        key = f"{prefix}{name}"
        if key == keys.REINFORCEPP or any(fnmatch(key, pattern) for pattern in free):
            continue
        if name not in known:
            if not _accepted_by_reader(str(name), tree, prefix):
                yield key
        elif isinstance(known[name], dict) and known[name]:
            if isinstance(content, dict):
                yield from _walk(content, known[name], f"{key}.", free)
            elif (content is not None or key in LIKELY_NODES) and not str(content).startswith("${"):
                yield f"{key}: is {content!r}, but must have the keys {', '.join(map(str, list(known[name])[:4]))}, ..."


def _accepted_by_reader(name: str, tree: Tree, prefix: str) -> bool:
    if prefix == f"{keys.RAY_INIT}.":
        import ray  # slow, and rarely needed

        # Some of its arguments, such as _temp_dir, are taken from **kwargs.
        others = re.findall(r"kwargs\.pop\(\s*[\"'](\w+)[\"']", inspect.getsource(ray.init))
        return name in {*inspect.signature(ray.init).parameters, *others}
    target = str(tree.get("_target_", ""))
    target = REPLACED.get(target, target)
    # verl checks the fields of other classes when it instantiates the node.
    return bool(target) and (not target.startswith("verl.") or name in fields_of(target))


def _own_node(config: DictConfig) -> list[str]:
    try:
        read_options(value(config, keys.REINFORCEPP))
    except ValueError as error:
        return [str(error)]
    return []


def _own_sampler(config: DictConfig) -> bool:
    return bool(value(config, keys.CUSTOM_SAMPLER_PATH) == base_value(keys.CUSTOM_SAMPLER_PATH))


def _sampler_options(config: DictConfig) -> list[str]:
    # The node is typed, so Hydra refuses wrong values, except null for the whole node.
    if value(config, keys.SAMPLER_KWARGS) is not None or not _own_sampler(config):
        return []
    return [f"{keys.SAMPLER_KWARGS} is null: our sampler needs its options; remove this setting to use the defaults"]
