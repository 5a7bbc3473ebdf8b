"""Run a function under Hydra's own command line, with our configs on its search path."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import hydra
import typer
from hydra.errors import CompactHydraException
from omegaconf import DictConfig

from reinforcepp_verl.config import search_path

CONFIG_NAME = "reinforcepp_trainer"
FULL_ERROR = "HYDRA_FULL_ERROR"


def run(task: Callable[[DictConfig], None], arguments: list[str], program: str) -> None:
    """Compose the config from `arguments` (Hydra's syntax, all its flags) and call `task` with it."""
    search_path.register()
    sys.argv = [program, *arguments]
    if os.environ.get(FULL_ERROR) == "1":
        hydra.main(config_path=None, config_name=CONFIG_NAME, version_base="1.3")(task)()
        return

    def compose_succeeded(config: DictConfig) -> None:
        os.environ.pop(FULL_ERROR, None)
        task(config)

    # Makes Hydra raise composition errors instead of printing them itself; the task runs without it.
    os.environ[FULL_ERROR] = "1"
    try:
        hydra.main(config_path=None, config_name=CONFIG_NAME, version_base="1.3")(compose_succeeded)()
    except CompactHydraException as error:
        from reinforcepp_verl.preflight import composition

        typer.echo(f"error: {composition.explain(error)}", err=True)
        sys.exit(2)
