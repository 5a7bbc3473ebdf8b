"""Run a function under Hydra's own command line, with our configs on its search path."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn

import hydra
from hydra.errors import CompactHydraException
from omegaconf import DictConfig
from yaml import YAMLError

from reinforcepp_verl.cli import user_yaml
from reinforcepp_verl.common import yaml_file
from reinforcepp_verl.common.terminal import echo
from reinforcepp_verl.common.wording import shown
from reinforcepp_verl.config import keys, machines, search_path
from reinforcepp_verl.config.schema import BASE

FULL_ERROR = "HYDRA_FULL_ERROR"


def run(task: Callable[[DictConfig], None], arguments: list[str], program: str, *, starts_here: bool = False) -> None:
    """Compose the config from `arguments` (Hydra's syntax, all its flags) and call `task` with it.

    Without cluster= it is composed for this machine if the run starts here, otherwise for the one it is meant for.
    """
    for argument in arguments:
        if reason := yaml_file.too_large(argument):
            _refuse(f"{shown(argument)}: {reason}")
    search_path.register()
    sys.argv = [program, *arguments]
    users_choice = os.environ.get(FULL_ERROR)
    is_composed = False

    def composed(config: DictConfig) -> None:
        nonlocal is_composed
        is_composed = True
        if not starts_here and (machine := machines.meant(config)):
            config = machines.composed_for(machine)
            echo(f"for cluster={machine} ({machines.described(config)}), as {keys.MEANT_FOR} says", err=True)
        if users_choice != "1":
            os.environ.pop(FULL_ERROR, None)
        task(config)

    # Makes Hydra raise composition errors instead of printing them itself; the task runs without it.
    os.environ[FULL_ERROR] = "1"
    try:
        with user_yaml.checked():
            hydra.main(config_path=None, config_name=BASE, version_base="1.3")(composed)()
    except (yaml_file.UnsoundYamlError, YAMLError) as error:
        _refuse(" ".join(str(error).split()))
    except CompactHydraException as error:
        if users_choice == "1":
            raise
        from reinforcepp_verl.preflight import composition

        _refuse(composition.explain(error))
    except (ValueError, OSError, RecursionError) as error:
        # Hydra's own messages about defaults lists and folders.
        if is_composed or users_choice == "1":
            raise
        from reinforcepp_verl.preflight import composition

        _refuse(composition.explain_other(error))


def _refuse(message: str) -> NoReturn:
    echo(f"error: {message}", err=True)
    sys.exit(2)
