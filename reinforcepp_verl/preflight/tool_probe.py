"""Loads tools, tool parser and agent loops as verl's rollout workers do; run as a script: PROBE REQUEST.

Prints the problems, each with the name of the setting.
"""

import os
import sys

if __name__ == "__main__":
    # Not this folder, whose modules are named like some of Python's.
    sys.path[0] = os.getcwd()

import importlib
import json
from collections.abc import Iterator
from typing import Any

MARK = "tools: "
Problem = tuple[str, str]


def problems(request: dict[str, Any]) -> Iterator[Problem]:
    """Yield name of the setting and problem; the request has the settings that verl reads, and the names of loops."""
    import verl  # noqa: F401  (imports the plugins and the modules of VERL_USE_EXTERNAL_MODULES)

    yield from _agent_loops(request.get("agent_loop_config_path"), request["agent_loops"])
    if not (request.get("tool_config_path") or request.get("function_tool_path")):
        return
    yield from _parser(request["format"])
    if declared := request.get("tool_config_path"):
        found = list(_declared_tools(declared))
        yield from (("tool_config_path", problem) for problem in found)
        if found:
            return
    yield from _loaded(declared, request.get("function_tool_path"))


def _agent_loops(file: str | None, needed: list[str]) -> Iterator[Problem]:
    from verl.experimental.agent_loop.agent_loop import _agent_loop_registry

    known = set(_agent_loop_registry)
    entries = _content(file) if file else []
    if not isinstance(entries, list):
        yield "agent_loop_config_path", f"{entries}; it must be a list, each entry with name and _target_"
        return
    for entry in entries:
        if not (isinstance(entry, dict) and {"name", "_target_"} <= set(entry)):
            yield "agent_loop_config_path", f"an entry has no name or no _target_: {entry}; give it both"
            continue
        known.add(entry["name"])
        if problem := _import_problem(entry["_target_"]):
            yield "agent_loop_config_path", problem
    for name in needed:
        if name not in known:
            yield "agent_loops", f"no agent loop {name}; known names: {', '.join(sorted(known))}"


def _content(file: str) -> Any:
    """Return what a YAML file has, or as a text why it cannot be read."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        return OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        return _text(error)


def _parser(name: str) -> Iterator[Problem]:
    from verl.experimental.agent_loop.tool_parser import ToolParser

    if name not in ToolParser._registry:
        yield "format", f"verl has no tool parser {name}; known names: {', '.join(sorted(ToolParser._registry))}"


def _declared_tools(file: str) -> Iterator[str]:
    """Check what verl's own loader takes for granted."""
    content = _content(file)
    tools = content.get("tools") if isinstance(content, dict) else None
    if not isinstance(tools, list) or not tools:
        reason = f"{content}; " if isinstance(content, str) else ""
        yield f"{reason}it has no list `tools`; list the tools there, each with class_name and config"
        return
    for tool in tools:
        name = tool.get("class_name") if isinstance(tool, dict) else None
        if not isinstance(name, str):
            yield f"a tool has no class_name: {tool}; name its class as in my_tools.Search"
        elif problem := _import_problem(name):
            yield problem
        elif not isinstance(tool.get("config"), dict) or tool["config"].get("type") != "native":
            yield f"{name} has no config with type: native; add it"


def _loaded(declared: str | None, functions: str | None) -> Iterator[Problem]:
    from verl.tools.tool_registry import load_all_tools

    setting = "function_tool_path" if functions and not declared else "tool_config_path"
    try:
        tools = load_all_tools(tool_config_path=declared, function_tool_path=functions)
    except (Exception, SystemExit) as error:
        yield setting, f"loading the tools fails with {_text(error)}; correct them"
        return
    names = [tool.name for tool in tools]
    if not tools:
        yield setting, "it defines no tool; decorate a function with verl's @function_tool"
    if twice := sorted({name for name in names if names.count(name) > 1}):
        yield setting, f"two tools are called {', '.join(twice)}, and verl uses the last; rename one"


def _import_problem(path: str) -> str | None:
    module, _, name = path.rpartition(".")
    if not module:
        return f"{path} has no module; name the class as in my_tools.{path}"
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        return f"the import of {module} fails with {_text(error)}; correct it, or put its folder into PYTHONPATH"
    if not isinstance(getattr(found, name, None), type):
        return f"{module} has no class {name}; correct the name"
    return None


def _text(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


if __name__ == "__main__":
    # Written past sys.stdout, to which tools print, and without exit handlers.
    os.write(1, f"\n{MARK}{json.dumps(list(problems(json.loads(sys.argv[1]))))}\n".encode())
    os._exit(0)
