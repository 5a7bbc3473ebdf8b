"""The model folders; verl would take a path that does not exist for the name of a model to download."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import constants
from omegaconf import DictConfig

from reinforcepp_verl.config import keys
from reinforcepp_verl.config.preflight_options import MISSING_FILES
from reinforcepp_verl.config.reading import value
from reinforcepp_verl.preflight.data_files import PREPARED_FOLDERS
from reinforcepp_verl.preflight.findings import Found, PreflightWarning
from reinforcepp_verl.sizing.model_size import model_folder
from reinforcepp_verl.tasks import LANGUAGE_MODEL

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")
CRITIC_HINT = f" (to use the actor's: '{keys.CRITIC_MODEL_PATH}=${{{keys.MODEL_PATH}}}')"
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def check(config: DictConfig) -> Found:
    """Check the model, its separate tokenizer if set, and the critic and the reward model if enabled."""
    return [
        *_model(config, keys.MODEL),
        *(_model(config, keys.CRITIC_MODEL, CRITIC_HINT) if value(config, keys.CRITIC_ENABLE) else []),
        *(_reward_model(config) if value(config, keys.REWARD_MODEL_ENABLE) else []),
    ]


def is_downloaded_at_start(name: str) -> bool:
    """Return True for a name on the hub whose files are not on this machine."""
    return not _looks_local(name) and model_folder(name) is None


def _reward_model(config: DictConfig) -> Found:
    given = value(config, keys.REWARD_MODEL_PATH)
    if not given:
        return [f"{keys.REWARD_MODEL_PATH} is {given}: set it to a model folder or a name on the Hugging Face hub"]
    return _folder(keys.REWARD_MODEL_PATH, given)


def _model(config: DictConfig, node: str, hint: str = "") -> Found:
    given, elsewhere = value(config, f"{node}.path"), value(config, f"{node}.tokenizer_path")
    if not given:
        return [f"{node}.path is {given}: set it to a model folder or a name on the Hugging Face hub{hint}"]
    return [
        *_folder(f"{node}.path", given, needs_tokenizer=not elsewhere, hint=hint),
        *(_folder(f"{node}.tokenizer_path", elsewhere, needs_config=False) if elsewhere else []),
    ]


def _folder(key: str, given: str, *, needs_config: bool = True, needs_tokenizer: bool = True, hint: str = "") -> Found:
    folder = Path(given).expanduser()
    if not folder.exists() and _looks_local(given):
        return [PreflightWarning(MISSING_FILES, f"{key}: no such folder: {given}; {_how_to_make(folder, key)}{hint}")]
    if not folder.exists():
        return _on_the_hub(key, given)
    missing = []
    if needs_config and not (folder / "config.json").is_file():
        missing.append("config.json")
    if needs_tokenizer and not any((folder / name).is_file() for name in TOKENIZER_FILES):
        missing.append("tokenizer files (tokenizer.json)")
    if not missing:
        return []
    return [f"{key}: {given} has no {' and no '.join(missing)}; save it there, or set {key} to another folder{hint}"]


def _looks_local(given: str) -> bool:
    """Return False for a hub name such as Qwen/Qwen3-0.6B and for an address such as hdfs://..."""
    if "://" in given:
        return False
    return given.startswith((".", "~")) or not _HUB_ID.fullmatch(given)


def _on_the_hub(key: str, name: str) -> Found:
    if not constants.HF_HUB_OFFLINE or "://" in name or model_folder(name):
        return []
    message = f"{key}: HF_HUB_OFFLINE is set, but {name} is not in the Hugging Face cache"
    fix = f"run `hf download {name}` with a network, or set {key} to a folder"
    return [PreflightWarning(MISSING_FILES, f"{message}; {fix}")]


def _how_to_make(folder: Path, key: str) -> str:
    if (name := folder.parent.name) in (*PREPARED_FOLDERS, LANGUAGE_MODEL):
        return f"run `reinforcepp prepare {name}`"
    if name.startswith(f"{LANGUAGE_MODEL}_"):
        task = name.removeprefix(f"{LANGUAGE_MODEL}_")
        return f"run `reinforcepp prepare {LANGUAGE_MODEL} --warm-start {task}`"
    return f"set {key} to a model folder or a name on the Hugging Face hub"
