"""Answers of a checkpoint: verl's validation with the run's own configuration, in a folder inside that run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from yaml import YAMLError

from reinforcepp_verl import search_path
from reinforcepp_verl.preflight import problems
from reinforcepp_verl.preflight.schema import BASE, Tree, as_tree
from reinforcepp_verl.runs import launch
from reinforcepp_verl.runs.checkpoint import Checkpoint
from reinforcepp_verl.runs.folder import RunFolder, create

EVALUATIONS = "evaluations"
"""Folder in the run; `runs/latest` goes on to mean the run itself."""
LOAD = ("actor_rollout_ref.actor.checkpoint.load_contents", "critic.checkpoint.load_contents")


@dataclass(frozen=True)
class Generation:
    """A validation that is ready to start."""

    checkpoint: Checkpoint
    config: DictConfig

    def start(self, console: Console) -> tuple[int, Path]:
        """Generate and judge; return the exit code and the folder of the evaluation, which looks like a run's."""
        folder = create(self.checkpoint.run.path / EVALUATIONS, f"step_{self.checkpoint.step}")
        return launch.run_in(folder, self.config, console), folder.path


def prepare(checkpoint: Checkpoint, overrides: Sequence[str]) -> Generation:
    """Read the run's config.yaml, apply `overrides` (key=value) to it and check the result.

    Raises:
        ValueError: the run kept no configuration, an override is not one, or the preflight refuses it, a line for each
            problem
    """
    try:
        saved = _saved(checkpoint.run)
        fixed = _fixed(checkpoint, saved)
        config = _with_references(saved)
        for key, value in fixed.items():
            OmegaConf.update(config, key, value)
        for override in overrides:
            _apply(override, config, fixed)
    except (YAMLError, OmegaConfBaseException, HydraException) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{checkpoint.run.config} with --set {' '.join(overrides)}: {reason}") from error
    found = problems(config) or _other_workers(config, checkpoint)
    if found:
        raise ValueError("\n".join(" ".join(problem.split()) for problem in found))
    return Generation(checkpoint, config)


def _saved(run: RunFolder) -> DictConfig:
    if not run.config.is_file():
        raise ValueError(
            f"{run.path}: no config.yaml; a checkpoint is evaluated in the folder of the run that saved it"
        )
    config = OmegaConf.load(run.config)
    if not isinstance(config, DictConfig):
        raise ValueError(f"{run.config}: not the configuration of a run")
    return config


def _fixed(checkpoint: Checkpoint, saved: DictConfig) -> dict[str, Any]:
    """Return what makes a training configuration validate one checkpoint and nothing else."""
    return {
        "trainer.val_only": True,
        "trainer.val_before_train": True,
        "trainer.resume_mode": "resume_path",
        "trainer.resume_from_path": str(checkpoint.path),
        **{key: ["model"] for key in LOAD},
        # Chooses the files that the configuration is composed of.
        "model_engine": saved.model_engine,
        # The run's own folders, which must not be written to.
        "trainer.default_local_dir": None,
        "trainer.validation_data_dir": None,
    }


def _apply(override: str, config: DictConfig, fixed: dict[str, Any]) -> None:
    key, equals, _ = override.partition("=")
    if not equals or not key:
        raise ValueError(f"--set {override}: write key=value, as for reinforcepp train")
    if key in fixed:
        raise ValueError(f"--set {override}: an evaluation sets {key} itself; leave it out")
    given = OmegaConf.from_dotlist([override])
    node, value = OmegaConf.select(config, key), OmegaConf.select(given, key, throw_on_resolution_failure=False)
    if isinstance(node, DictConfig) and node and value is not None and not isinstance(value, DictConfig):
        raise ValueError(
            f"--set {override}: {key} holds keys; set one of them, such as {key}.{next(iter(as_tree(node)))}"
        )
    config.merge_with(given)


def _with_references(saved: DictConfig) -> DictConfig:
    """Lay the saved config over the base, and keep the base's references where they give what is saved.

    config.yaml holds only what references came to: an override of data.max_response_length would not reach the rollout.
    """
    search_path.register()
    with initialize(config_path=None, version_base="1.3"):
        base = compose(BASE, overrides=[f"model_engine={saved.model_engine}"])
    references = list(_references(as_tree(base)))
    OmegaConf.set_struct(base, False)
    base.merge_with(saved)
    for key, reference in references:
        value = OmegaConf.select(base, key)
        OmegaConf.update(base, key, reference)
        if OmegaConf.select(base, key) != value:
            OmegaConf.update(base, key, value)
    return base


def _references(tree: Tree, prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _references(value, f"{prefix}{name}.")
        elif isinstance(value, str) and "${" in value:
            yield f"{prefix}{name}", value


def _other_workers(config: DictConfig, checkpoint: Checkpoint) -> list[str]:
    workers = config.trainer.nnodes * config.trainer.n_gpus_per_node
    if workers == checkpoint.world_size:
        return []
    return [
        f"trainer.nnodes x trainer.n_gpus_per_node is {workers}: {checkpoint.path} has {checkpoint.world_size} shards, "
        "which takes as many workers; leave both as they were"
    ]
