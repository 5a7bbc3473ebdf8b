"""Tools and agent loops: missing files, tools that no loop calls, loops without tools; tool_import loads them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from omegaconf import DictConfig

from reinforcepp_verl.config import keys
from reinforcepp_verl.config.preflight_options import MISSING_FILES, UNMEASURED_TOOLS
from reinforcepp_verl.config.reading import value
from reinforcepp_verl.preflight.data_files import PREPARED_FOLDERS, files_of
from reinforcepp_verl.preflight.data_table import UnreadableTableError, read, rows_of
from reinforcepp_verl.preflight.findings import Found, PreflightWarning

SINGLE_TURN, TOOL_AGENT = "single_turn_agent", "tool_agent"
"""verl's own agent loops."""
AGENT_NAME = "agent_name"
"""verl's column with a row's agent loop; rows without one get the default."""
TOOL_KEYS = (keys.MULTI_TURN_TOOL_CONFIG_PATH, keys.MULTI_TURN_FUNCTION_TOOL_PATH)


def check(config: DictConfig) -> Found:
    """Compare the tools with the agent loops that could call them, then look for the files."""
    return [*_contradictions(config), *_missing_files(config), *_unmeasured_tools(config)]


def agent_loops(config: DictConfig) -> dict[str, str]:
    """Return the agent loops of the data, each with the setting or the file that names it; {} if a class decides."""
    if value(config, keys.CUSTOM_CLS_PATH):
        return {}
    default = value(config, keys.DEFAULT_AGENT_LOOP)
    found: dict[str, str] = {}
    for key in (keys.TRAIN_FILES, keys.VAL_FILES):
        for file in files_of(config, key):
            for name in _named_in(Path(str(file))):
                found.setdefault(name or default, f"{key}: {file}" if name else keys.DEFAULT_AGENT_LOOP)
    return found


def tool_files(config: DictConfig) -> dict[str, str]:
    """Return the settings that name a file of tools, with the file."""
    return {key: str(file) for key in TOOL_KEYS if (file := value(config, key))}


def resolved(path: str) -> Path | None:
    """Return the file that verl finds: relative to this folder, or to the one that verl is installed in."""
    spec = importlib.util.find_spec("verl")
    roots = [Path.cwd(), *([Path(spec.origin).parents[1]] if spec and spec.origin else [])]
    return next((file for root in roots if (file := root / path).is_file()), None)


def _contradictions(config: DictConfig) -> list[str]:
    loops, tools = agent_loops(config), tool_files(config)
    if tools and set(loops) == {SINGLE_TURN}:
        key, file = next(iter(tools.items()))
        return [
            f"{key} is {file}, but {loops[SINGLE_TURN]} names the agent loop {SINGLE_TURN}, which calls no tool; set "
            f"{keys.DEFAULT_AGENT_LOOP}={TOOL_AGENT}, or {key}=null",
        ]
    if TOOL_AGENT in loops and not tools:
        return [
            f"{loops[TOOL_AGENT]} names the agent loop {TOOL_AGENT}, but there are no tools: every call would get an "
            f"error; set {keys.MULTI_TURN_TOOL_CONFIG_PATH} or {keys.MULTI_TURN_FUNCTION_TOOL_PATH}, or "
            f"{keys.DEFAULT_AGENT_LOOP}={SINGLE_TURN}",
        ]
    return _disagreeing_switch(config, loops)


def _disagreeing_switch(config: DictConfig, loops: dict[str, str]) -> list[str]:
    """Compare the loops with `multi_turn.enable`, which verl's v1 trainers do not read."""
    enabled = value(config, keys.MULTI_TURN_ENABLE)
    if not enabled and TOOL_AGENT in loops:
        return [
            f"{keys.MULTI_TURN_ENABLE} is false, but {loops[TOOL_AGENT]} names the agent loop {TOOL_AGENT}, which "
            f"takes several turns all the same; set {keys.MULTI_TURN_ENABLE}=true, or "
            f"{keys.DEFAULT_AGENT_LOOP}={SINGLE_TURN}"
        ]
    if enabled and set(loops) == {SINGLE_TURN}:
        return [
            f"{keys.MULTI_TURN_ENABLE} is true, but {loops[SINGLE_TURN]} names the agent loop {SINGLE_TURN}, which "
            f"takes one turn all the same; set {keys.DEFAULT_AGENT_LOOP}={TOOL_AGENT}, or "
            f"{keys.MULTI_TURN_ENABLE}=false"
        ]
    return []


def _missing_files(config: DictConfig) -> Found:
    found = []
    for key in (*TOOL_KEYS, keys.AGENT_LOOP_CONFIG_PATH):
        given = value(config, key)
        if given and resolved(given) is None:
            folder = Path(given).parent.name
            made = folder in PREPARED_FOLDERS
            fix = f"run `reinforcepp prepare {folder}`" if made else "create it, or correct the path"
            found.append(PreflightWarning(MISSING_FILES, f"{key}: no such file: {given}; {fix}"))
    return found


def _unmeasured_tools(config: DictConfig) -> Found:
    """Find tools that the rollout shows to the model, but that verl does not count when it measures prompts."""
    of_data = {
        keys.MULTI_TURN_TOOL_CONFIG_PATH: keys.TOOL_CONFIG_PATH,
        keys.MULTI_TURN_FUNCTION_TOOL_PATH: keys.FUNCTION_TOOL_PATH,
    }
    return [
        PreflightWarning(
            UNMEASURED_TOOLS,
            f"{of_data[key]} is {value(config, of_data[key])}: prompts are measured without the tools of {key}, which "
            f"most chat templates add, and verl cuts off the beginning of prompts that get too long; set "
            f"{of_data[key]}={file}",
        )
        for key, file in tool_files(config).items()
        if value(config, of_data[key]) != value(config, key)
    ]


def _named_in(file: Path) -> list[str | None]:
    """Return the agent loops of a data file, None for the default; data_files reports a file that cannot be read."""
    try:
        table = read(file)
        if AGENT_NAME not in table.types:
            return [None]
        rows = [row for batch in table.batches([AGENT_NAME]) for row in rows_of(batch)]
    except (FileNotFoundError, UnreadableTableError):
        return [None]
    return list(dict.fromkeys((row or {}).get(AGENT_NAME) for row in rows))
