"""What a cell is trained from: its data and models, of which another machine or version may have prepared others."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import value
from reinforcepp_verl.config.schema import compose_base

NAMED_BY = (keys.MODEL_PATH, keys.REWARD_MODEL_PATH, keys.TRAIN_FILES, keys.VAL_FILES)
DIGITS = 12


@functools.cache
def digest(overrides: tuple[str, ...]) -> str:
    """Return a digest of the files that a configuration names; what is no local file or folder counts by its name."""
    config = compose_base(*overrides)
    found = hashlib.sha256()
    for key in NAMED_BY:
        named = value(config, key)
        for name in [named] if isinstance(named, str) else named or []:
            found.update(f"{key} {name}\n".encode())
            for file in _files(Path(name).expanduser()):
                found.update(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()[:DIGITS]


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path] * path.is_file()
