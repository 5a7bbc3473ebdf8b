"""Loads the tools once, in a process of its own, as the rollout workers will.

A tool, parser or agent loop that cannot be loaded there would otherwise end the run minutes later, in a worker.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from typing import Any

from omegaconf import DictConfig

from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import value
from reinforcepp_verl.preflight import tool_probe
from reinforcepp_verl.preflight.agent_tools import SINGLE_TURN, agent_loops, resolved

TIMEOUT_S = 120
SETTINGS = {
    "tool_config_path": keys.MULTI_TURN_TOOL_CONFIG_PATH,
    "function_tool_path": keys.MULTI_TURN_FUNCTION_TOOL_PATH,
    "agent_loop_config_path": keys.AGENT_LOOP_CONFIG_PATH,
    "format": keys.MULTI_TURN_FORMAT,
}
FILES = ("tool_config_path", "function_tool_path", "agent_loop_config_path")


def check(config: DictConfig) -> list[str]:
    """Load tools, parser and agent loops, unless there is only verl's loop for one turn, or a file is missing."""
    request = request_for(config)
    if request is None:
        return []
    where = {name: f"{key} is {value(config, key)}" for name, key in SETTINGS.items()}
    where["agent_loops"] = " and ".join(dict.fromkeys(agent_loops(config).values()))
    return [f"{where[name]}: {problem}" for name, problem in _problems(config, request)]


def request_for(config: DictConfig) -> dict[str, Any] | None:
    """Return what the probe is asked, None if there is nothing to load or `agent_tools` reports a missing file."""
    request: dict[str, Any] = {name: value(config, key) for name, key in SETTINGS.items()}
    loops = agent_loops(config)
    files = {name: resolved(request[name]) for name in FILES if request[name]}
    if (not files and set(loops) <= {SINGLE_TURN}) or None in files.values():
        return None
    return request | {name: str(file) for name, file in files.items()} | {"agent_loops": list(loops)}


def _problems(config: DictConfig, request: dict[str, Any]) -> list[tuple[str, str]]:
    given = value(config, keys.PY_EXECUTABLE)
    command = [*(shlex.split(given) if given else [sys.executable]), tool_probe.__file__, json.dumps(request)]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except (subprocess.TimeoutExpired, OSError):
        # Not an error: a tool may load a model. `plugin_installed` checks the interpreter.
        return []
    for line in reversed(done.stdout.decode(errors="replace").splitlines()):
        if line.startswith(tool_probe.MARK):
            return [(name, problem) for name, problem in json.loads(line.removeprefix(tool_probe.MARK))]
    reason = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    loaded = next((name for name in FILES if request[name]), "agent_loops")
    return [(loaded, f"loading it ends the process: {reason}; correct it")]
