"""Checks the YAML files that a user adds to Hydra's search path, before Hydra parses them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra._internal.sources_registry import SourcesRegistry
from hydra.plugins.config_source import ConfigResult
from yaml import MarkedYAMLError

from reinforcepp_verl.common import yaml_file
from reinforcepp_verl.config import search_path


@contextmanager
def checked() -> Iterator[None]:
    """Refuse unsound files while Hydra composes: it would report some without a line, and expand others for hours.

    Raises:
        UnsoundYamlError: from Hydra's loader
    """
    # Hydra imports its plugins a second time: this class is not that of the module's own name.
    source: Any = SourcesRegistry.instance().resolve("file")
    original = source.load_config
    sound = {os.path.realpath(folder) for folder in (search_path.config_dir(), search_path.verl_config_dir())}

    def load_config(self: Any, config_path: str) -> ConfigResult:
        file = Path(self.path, self._normalize_file_name(config_path))
        if os.path.realpath(self.path) in sound or not file.is_file():
            return original(self, config_path)
        yaml_file.check(file)
        try:
            return original(self, config_path)
        except MarkedYAMLError as error:
            raise yaml_file.unsound(file, error) from None

    source.load_config = load_config
    try:
        yield
    finally:
        source.load_config = original
