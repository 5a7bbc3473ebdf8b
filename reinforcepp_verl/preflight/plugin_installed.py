"""Whether verl will load this plugin in the worker processes; verl itself would silently train without it."""

from __future__ import annotations

import shlex
import subprocess
from importlib.metadata import entry_points

from omegaconf import DictConfig

from reinforcepp_verl.common.plugin_policy import PLUGIN_NAME, POLICY_VARIABLE, allows_our_plugin, plugin_policy
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import value

ENTRY_POINT_GROUP, PLUGIN_MODULE = "verl.plugins", "reinforcepp_verl.plugin"
PROBE_TIMEOUT_S = 10
PROBE = (
    "from importlib.metadata import entry_points; "
    f"print('found:', *entry_points(group='{ENTRY_POINT_GROUP}', name='{PLUGIN_NAME}').names)"
)


def check(config: DictConfig) -> list[str]:
    """Check the switch, the installed entry point, the workers' separate interpreter and their setup hook."""
    return [*_switch(config), *_entry_point(), *_worker_interpreter(config), *_setup_hook(config)]


def _switch(config: DictConfig) -> list[str]:
    # The environment set for the workers overrides the inherited one.
    policy = plugin_policy(value(config, f"{keys.RUNTIME_ENV}.env_vars.{POLICY_VARIABLE}"))
    if allows_our_plugin(policy):
        return []
    return [
        f"{POLICY_VARIABLE}={policy}: verl would not load the plugin in its workers; unset it, or set it to "
        f"{PLUGIN_NAME}"
    ]


def _entry_point() -> list[str]:
    if any(point.value == PLUGIN_MODULE for point in entry_points(group=ENTRY_POINT_GROUP, name=PLUGIN_NAME)):
        return []
    return [
        f"{ENTRY_POINT_GROUP}: no installed package provides {PLUGIN_NAME} = {PLUGIN_MODULE}, so verl would not "
        "load the plugin; install it with `pip install --no-deps .` in a clone of its repository"
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
    if f"found: {PLUGIN_NAME}" in answer.stdout:
        return []
    return [f"{keys.PY_EXECUTABLE} is {command}: reinforcepp-verl is not installed there; install it, or set null"]


def _setup_hook(config: DictConfig) -> list[str]:
    hook = value(config, keys.SETUP_HOOK)
    if not hook:
        return []
    return [
        f"{keys.SETUP_HOOK} is {hook}: a run needs this hook itself, to authenticate the TransferQueue's messages; "
        "remove it, and do what it does in a module named in VERL_USE_EXTERNAL_MODULES"
    ]
