"""The saved configuration of a run, with its references restored so that overrides apply."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from reinforcepp_verl.common import yaml_file
from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.common.wording import shown
from reinforcepp_verl.config import schema
from reinforcepp_verl.config.schema import Tree, as_tree


def load(run: RunFolder) -> DictConfig:
    """Read config.yaml of a run.

    Raises:
        ValueError: it does not exist, is not valid YAML, or is not a configuration
    """
    if not run.config.is_file():
        raise ValueError(
            f"{run.path}: no config.yaml; give the folder of a run, for example runs/latest, or a checkpoint in it"
        )
    try:
        yaml_file.check(run.config)
        config = OmegaConf.load(run.config)
    except yaml_file.UnsoundYamlError as error:
        raise ValueError(f"{error}, or restore the file from {run.path}/attempt_N/config.yaml") from None
    except YAMLError as error:
        raise ValueError(f"{run.config}: {' '.join(str(error).split())}; repair it") from error
    if not isinstance(config, DictConfig):
        raise ValueError(f"{run.config}: not the configuration of a run")
    return config


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
