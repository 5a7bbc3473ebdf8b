"""Run a function under Hydra's own command line, with our configs on its search path."""

from __future__ import annotations

import sys
from collections.abc import Callable

import hydra
from omegaconf import DictConfig

from reinforcepp_verl import search_path

CONFIG_NAME = "reinforcepp_trainer"


def run(task: Callable[[DictConfig], None], arguments: list[str], program: str) -> None:
    """Compose the config from `arguments` (Hydra's syntax, all its flags) and call `task` with it."""
    search_path.register()
    sys.argv = [program, *arguments]
    hydra.main(config_path=None, config_name=CONFIG_NAME, version_base="1.3")(task)()
