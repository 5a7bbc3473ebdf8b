"""Generates answers of a checkpoint: verl's validation with the run's configuration, in a folder inside the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from yaml import YAMLError

from reinforcepp_verl.checkpoints.fsdp_checkpoint import Checkpoint
from reinforcepp_verl.common.run_folder import create
from reinforcepp_verl.common.terminal import say
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import world_size
from reinforcepp_verl.preflight import examine
from reinforcepp_verl.preflight.findings import PreflightWarning, show_warnings
from reinforcepp_verl.runs import launch, saved_config

LOAD_CONTENTS = (keys.ACTOR_LOAD_CONTENTS, keys.CRITIC_LOAD_CONTENTS)


@dataclass(frozen=True)
class Generation:
    """A validation that is ready to start."""

    checkpoint: Checkpoint
    config: DictConfig
    warnings: list[PreflightWarning]

    def start(self, console: Console) -> tuple[int, Path]:
        """Generate and score; return the exit code and the folder of the evaluation, which has a run's layout."""
        for problem in launch.clear_evaluations(self.checkpoint.run):
            say(console, problem)
        folder = create(self.checkpoint.run.evaluations, f"step_{self.checkpoint.step}")
        with launch.run_lock(folder):
            launch.save_config(self.config, folder)
            show_warnings(self.warnings)
            launch.save_warnings(self.warnings, folder)
            return launch.run_attempt(folder, self.config, {}, console), folder.path


def prepare(checkpoint: Checkpoint, overrides: Sequence[str]) -> Generation:
    """Read the run's config.yaml, apply `overrides` (key=value) to it and check the result.

    Raises:
        ValueError: the run has no configuration, an override is invalid, or the preflight refuses the result; one line
            per problem
    """
    try:
        saved = saved_config.load(checkpoint.run)
        fixed = _fixed(checkpoint, saved)
        config = saved_config.with_references(saved)
        for key, value in fixed.items():
            OmegaConf.update(config, key, value)
        for override in overrides:
            saved_config.apply(override, config, fixed, command="an evaluation", option="--set ")
    except (YAMLError, OmegaConfBaseException, HydraException) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{checkpoint.run.config} with --set {' '.join(overrides)}: {reason}") from error
    found = examine(config)
    if errors := found.errors or _other_workers(config, checkpoint):
        raise ValueError("\n".join(" ".join(error.split()) for error in errors))
    return Generation(checkpoint, config, found.warnings)


def _fixed(checkpoint: Checkpoint, saved: DictConfig) -> dict[str, Any]:
    """Return the settings that turn a training configuration into a validation of one checkpoint."""
    return {
        keys.VAL_ONLY: True,
        keys.VAL_BEFORE_TRAIN: True,
        keys.RESUME_MODE: "resume_path",
        keys.RESUME_FROM_PATH: str(checkpoint.path),
        **{key: ["model"] for key in LOAD_CONTENTS},
        # Selects the files that the configuration is composed of.
        keys.MODEL_ENGINE: saved.model_engine,
        # The run's own folders must not be written to.
        keys.DEFAULT_LOCAL_DIR: None,
        keys.VALIDATION_DATA_DIR: None,
    }


def _other_workers(config: DictConfig, checkpoint: Checkpoint) -> list[str]:
    workers = world_size(config)
    if workers == checkpoint.world_size:
        return []
    return [
        f"{keys.NNODES} x {keys.N_GPUS_PER_NODE} is {workers}: {checkpoint.path} has {checkpoint.world_size} shards, "
        "which need as many workers; leave both unchanged"
    ]
