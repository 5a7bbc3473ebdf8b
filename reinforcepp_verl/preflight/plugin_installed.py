"""Whether verl will load this plugin in the worker processes; verl itself would silently train without it."""

from __future__ import annotations

import os
import shlex
import subprocess
from importlib.metadata import entry_points

from omegaconf import DictConfig

from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import value

ENTRY_POINT_GROUP, ENTRY_POINT_NAME, PLUGIN_MODULE = "verl.plugins", "reinforcepp", "reinforcepp_verl.plugin"
POLICY_VARIABLE = "VERL_USE_EXTERNAL_PLUGINS"
PROBE_TIMEOUT_S = 10
PROBE = (
    "from importlib.metadata import entry_points; "
    f"print('found:', *entry_points(group='{ENTRY_POINT_GROUP}', name='{ENTRY_POINT_NAME}').names)"
)


def check(config: DictConfig) -> list[str]:
    """Check the switch, the installed entry point, and the workers' separate interpreter if there is one."""
    return [*_switch(config), *_entry_point(), *_worker_interpreter(config)]


def _switch(config: DictConfig) -> list[str]:
    # The environment set for the workers overrides the inherited one.
    given = value(config, f"{keys.RUNTIME_ENV}.env_vars.{POLICY_VARIABLE}")
    policy = str(os.environ.get(POLICY_VARIABLE, "auto") if given is None else given).strip().lower()
    if policy == "auto" or (policy != "none" and ENTRY_POINT_NAME in (name.strip() for name in policy.split(","))):
        return []
    return [
        f"{POLICY_VARIABLE}={policy}: verl would not load the plugin in its workers; unset it, or set it to "
        f"{ENTRY_POINT_NAME}"
    ]


def _entry_point() -> list[str]:
    if any(point.value == PLUGIN_MODULE for point in entry_points(group=ENTRY_POINT_GROUP, name=ENTRY_POINT_NAME)):
        return []
    return [
        f"{ENTRY_POINT_GROUP}: no installed package provides {ENTRY_POINT_NAME} = {PLUGIN_MODULE}, so verl would not "
        "load the plugin; install it with `pip install reinforcepp-verl` or, in a checkout, `pip install -e .`"
    ]


def _worker_interpreter(config: DictConfig) -> list[str]:
    command = value(config, keys.PY_EXECUTABLE)
    if not command:
        return []
    try:
        answer = subprocess.run(
            [*shlex.split(command), "-c", PROBE], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False
        )
    except OSError as error:
        return [f"{keys.PY_EXECUTABLE} is {command}: it does not start ({error.strerror}); set a Python interpreter"]
    except subprocess.TimeoutExpired:
        # Not an error: a command like `uv run` may still be installing.
        return []
    if f"found: {ENTRY_POINT_NAME}" in answer.stdout:
        return []
    return [f"{keys.PY_EXECUTABLE} is {command}: reinforcepp-verl is not installed there; install it, or set null"]
