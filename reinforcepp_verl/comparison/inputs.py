"""What a cell is trained from: its data and models. Another machine or version may have prepared different ones."""

from __future__ import annotations

import functools
from pathlib import Path

import xxhash
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from reinforcepp_verl.checkpoints import manifest
from reinforcepp_verl.common.wording import first_line
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import value
from reinforcepp_verl.config.schema import compose_base

NAMED_BY = (keys.MODEL_PATH, keys.TOKENIZER_PATH, keys.REWARD_MODEL_PATH, keys.TRAIN_FILES, keys.VAL_FILES)
DIGITS = 12


@functools.cache
def digest(overrides: tuple[str, ...]) -> str:
    """Return a digest of the files that a configuration names; what is no local file or folder counts by its name.

    Raises:
        ValueError: the overrides are no configuration
    """
    try:
        config = compose_base(*overrides)
        named = [(key, name) for key in _keys(config) for name in _names(value(config, key))]
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(f"{' '.join(overrides)}: {first_line(error)}; correct the suite's file") from error
    found = xxhash.xxh3_128()
    for key, name in named:
        found.update(f"{key} {name}\n".encode())
        for file in _files(Path(name).expanduser()):
            found.update(f"{file.name} {_checksum(file)}\n".encode())
    return found.hexdigest()[:DIGITS]


def _keys(config: DictConfig) -> list[str]:
    critic = [keys.CRITIC_MODEL_PATH] if value(config, keys.CRITIC_ENABLE) else []
    return [*NAMED_BY, *critic]


def _names(given: object) -> list[str]:
    return [given] if isinstance(given, str) else list(given or [])  # type: ignore[call-overload]


def _files(path: Path) -> list[Path]:
    """Return the files of a folder without hidden ones, such as the times that a download leaves, or the file."""
    if not path.is_dir():
        return [path] * path.is_file()
    shown = (file for file in path.rglob("*") if not any(part.startswith(".") for part in file.relative_to(path).parts))
    return sorted(file for file in shown if file.is_file())


# Methods share their files.
_checksum = functools.cache(manifest.digest)
