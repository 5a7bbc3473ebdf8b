"""Checks the YAML files that a user adds to Hydra's search path, before Hydra parses them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.plugins.config_source import ConfigResult

from reinforcepp_verl.common import yaml_file
from reinforcepp_verl.config import search_path


@contextmanager
def checked() -> Iterator[None]:
    """Refuse unsound files while Hydra composes: it would report some without a line, and expand others for hours.

    Raises:
        UnsoundYamlError: from Hydra's loader
    """
    original = FileConfigSource.load_config
    sound = {os.path.realpath(folder) for folder in (search_path.config_dir(), search_path.verl_config_dir())}

    def load_config(self: FileConfigSource, config_path: str) -> ConfigResult:
        file = Path(self.path, self._normalize_file_name(config_path))
        if os.path.realpath(self.path) not in sound and file.is_file():
            yaml_file.check(file)
        return original(self, config_path)

    FileConfigSource.load_config = load_config  # type: ignore[method-assign]
    try:
        yield
    finally:
        FileConfigSource.load_config = original  # type: ignore[method-assign]
