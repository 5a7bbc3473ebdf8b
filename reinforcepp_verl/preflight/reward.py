"""The user's reward function: whether file and function are there, without running any of the user's code."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

from omegaconf import DictConfig

from reinforcepp_verl.preflight.values import did_you_mean, value

NODE = "reward.custom_reward_function"


def check(config: DictConfig) -> list[str]:
    """Find the function's source file and look for the function in it."""
    path, name = value(config, f"{NODE}.path"), value(config, f"{NODE}.name")
    if not path:
        return []
    source = _source(path)
    if source is None:
        return [
            f"{NODE}.path is {path}: there is no such module or file; set it to a .py file or to pkg://PACKAGE.MODULE"
        ]
    try:
        names = _top_level_names(ast.parse(source.read_text(encoding="utf-8")))
    except (SyntaxError, UnicodeDecodeError) as error:
        return [f"{NODE}.path is {path}: it is not Python ({error}); correct the file"]
    if name in names or "*" in names:
        return []
    return [
        f"{NODE}.name is {name}: {path} defines no such function{did_you_mean(name, names)}; define it, or set "
        f"{NODE}.name to one that is there ({', '.join(sorted(names))})"
    ]


def _source(path: str) -> Path | None:
    """Return the source file of verl's `pkg://a.b`, `file://...` or plain path, None where there is none."""
    if not path.startswith("pkg://"):
        file = Path(path.removeprefix("file://"))
        return file if file.is_file() else None
    try:
        spec = importlib.util.find_spec(path.removeprefix("pkg://").replace("/", "."))
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin else None


def _top_level_names(module: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.If | ast.Try):
            names.add("*")  # what it defines depends on the machine
    return names
