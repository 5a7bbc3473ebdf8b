"""Imports the reward function once, in a process of its own, as the reward workers will.

An import that fails there would otherwise end the run minutes later, when every prompt group has failed.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys

from omegaconf import DictConfig

from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import value
from reinforcepp_verl.preflight import reward_probe
from reinforcepp_verl.preflight.reward_function import OUR_REWARDS, REWARD_MODEL_ARGUMENTS

TIMEOUT_S = 30


def check(config: DictConfig) -> list[str]:
    """Import the file or module, unless it is one of ours."""
    path, name = value(config, keys.REWARD_FUNCTION_PATH), value(config, keys.REWARD_FUNCTION_NAME)
    if not path or path.startswith(OUR_REWARDS):
        return []
    command = value(config, keys.PY_EXECUTABLE)
    others = [*_of_reward_model(config), *map(str, value(config, keys.REWARD_KWARGS) or ())]
    found = _found(shlex.split(command) if command else [sys.executable], path.removeprefix("file://"), name, others)
    if error := found.get("error"):
        where = f" in line {found['line']}" if found.get("line") else ""
        reason = " ".join(str(error).split())
        return [
            f"{keys.REWARD_FUNCTION_PATH} is {path}: its import fails{where} with {reason}; correct the file, or "
            "install what it needs"
        ]
    if found.get("callable") is False:
        return [
            f"{keys.REWARD_FUNCTION_NAME} is {name}, which is not a function in {path}; define it, or set another name"
        ]
    if refused := found.get("refuses"):
        arguments = ", ".join((*reward_probe.ARGUMENTS, *others))
        return [
            f"{keys.REWARD_FUNCTION_NAME} is {name}: verl calls it with {arguments}: {refused}; correct its arguments"
        ]
    return []


def _of_reward_model(config: DictConfig) -> tuple[str, ...]:
    return REWARD_MODEL_ARGUMENTS if value(config, keys.REWARD_MODEL_ENABLE) else ()


def _found(python: list[str], path: str, name: str, others: list[str]) -> dict[str, object]:
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    command = [*python, reward_probe.__file__, path, name, *others]
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except (subprocess.TimeoutExpired, OSError):
        # Not an error: it may load a model. `plugin_installed` checks the interpreter.
        return {}
    for line in reversed(done.stdout.decode(errors="replace").splitlines()):
        if line.startswith(reward_probe.MARK):
            found: dict[str, object] = json.loads(line.removeprefix(reward_probe.MARK))
            return found
    return {"error": f"the end of its process (exit code {done.returncode})"}
