"""The saved configuration of a run, with its references restored so that overrides apply."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Set
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from reinforcepp_verl.common import yaml_file
from reinforcepp_verl.common.run_folder import Attempt, RunFolder
from reinforcepp_verl.common.wording import shown
from reinforcepp_verl.config import config_file, keys, schema
from reinforcepp_verl.config.schema import Tree, as_tree
from reinforcepp_verl.runs.attempt import kept_config

SET_BY_RESUME = {
    keys.RESUME_MODE: "disable",
    keys.RESUME_FROM_PATH: None,
    keys.VAL_BEFORE_TRAIN: True,
    keys.VAL_ONLY: False,
}
"""What `resume` sets for each attempt, with the values of a run whose first attempt is not known."""
NODES = {"actor_rollout_ref", "algorithm", "data", "trainer"}


def load(run: RunFolder) -> DictConfig:
    """Read config.yaml of a run; if it is lost, the configuration of the newest attempt takes its place.

    Raises:
        ValueError: neither can be read
    """
    return find(run)[0]


def find(run: RunFolder) -> tuple[DictConfig, Path]:
    """Return what `load` does, and the file that it is from."""
    attempts = run.attempts() if run.path.is_dir() else []
    made_into = next((nodes for attempt in reversed(attempts) if (nodes := _nodes(attempt.config)) >= NODES), NODES)
    if (config := _whole(run.config, made_into)) is not None:
        return config, run.config
    for attempt in reversed(attempts):
        if _whole(attempt.config, made_into) is not None:
            return _kept(attempt, attempts[0]), attempt.config
    if run.config.is_file():
        config_file.load(run.config)
        raise ValueError(f"{run.config}: not the configuration of a run; restore it")
    raise ValueError(
        f"{run.path}: no config.yaml; give the folder of a run, for example runs/latest, or a checkpoint in it"
    )


def _kept(attempt: Attempt, first: Attempt) -> DictConfig:
    config = kept_config(attempt)
    before = _whole(first.config, NODES) if first.number == 1 else None
    for key, initial in SET_BY_RESUME.items():
        # Later attempts started where the one before them had ended.
        OmegaConf.update(config, key, initial if before is None else OmegaConf.select(before, key))
    return config


def _whole(file: Path, nodes: Set[str]) -> DictConfig | None:
    """Return a configuration if it can be read and has all `nodes`: one that was cut off may still be valid YAML."""
    try:
        config = config_file.load(file) if file.is_file() else None
    except ValueError:
        return None
    return config if config is not None and config.keys() >= nodes else None


def _nodes(file: Path) -> Set[str]:
    """Return the top-level names of a file in OmegaConf's notation, without the time to parse it."""
    text = file.read_bytes().decode(errors="replace") if file.is_file() else ""
    return set(re.findall(r"^(\w+):", text, re.MULTILINE))


def with_references(saved: DictConfig) -> DictConfig:
    """Merge the saved config into the base, and keep the base's references whose value equals the saved one.

    config.yaml has resolved values only: without references, overriding data.max_response_length would not reach the
    rollout.
    """
    config = schema.base(saved.model_engine).copy()
    references = list(_references(as_tree(config)))
    OmegaConf.set_struct(config, False)
    config.merge_with(saved)
    for key, reference in references:
        value = OmegaConf.select(config, key)
        OmegaConf.update(config, key, reference)
        if OmegaConf.select(config, key) != value:
            OmegaConf.update(config, key, value)
    return config


def apply(override: str, config: DictConfig, fixed: Collection[str], *, command: str, option: str = "") -> None:
    """Set one `key=value` in `config`; `option` is the option before it on the command line of `command`.

    Raises:
        ValueError: it has another form, names a node instead of a value, or a key in `fixed`
    """
    override = override.lstrip("+")  # Unlike on Hydra's command line, a new key needs no +.
    key, equals, _ = override.partition("=")
    if reason := yaml_file.too_large(override):
        raise ValueError(f"{option}{shown(override)}: {reason}")
    if not equals or not key:
        raise ValueError(f"{option}{override}: write key=value, as for reinforcepp train")
    if key in fixed:
        raise ValueError(f"{option}{override}: {command} sets {key} itself; remove it")
    given = OmegaConf.from_dotlist([override])
    node, value = OmegaConf.select(config, key), OmegaConf.select(given, key, throw_on_resolution_failure=False)
    if isinstance(node, DictConfig) and node and value is not None and not isinstance(value, DictConfig):
        raise ValueError(
            f"{option}{override}: {key} is a node; set one of its keys, such as {key}.{next(iter(as_tree(node)))}"
        )
    config.merge_with(given)


def _references(tree: Tree, prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _references(value, f"{prefix}{name}.")
        elif isinstance(value, str) and "${" in value:
            yield f"{prefix}{name}", value
