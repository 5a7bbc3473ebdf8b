"""The keys that a reward function returns, read from its source where that says it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

OF_A_NUMBER = frozenset({"score", "acc"})
"""The keys that the reward manager makes of a bare number."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def returned_keys(source: Path, name: str) -> frozenset[str] | None:
    """Return the keys of all results of a function, None if a result is computed elsewhere."""
    module = ast.parse(source.read_text(encoding="utf-8"))
    function = next((node for node in module.body if isinstance(node, Function) and node.name == name), None)
    if function is None:
        return None
    results = [_keys(node.value, function) for node in _own_nodes(function) if isinstance(node, ast.Return)]
    known = [result for result in results if result is not None]
    return frozenset.union(*known) if known and len(known) == len(results) else None


def _own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a function without those of the functions defined in it."""
    for node in ast.iter_child_nodes(function):
        if not isinstance(node, Function | ast.Lambda):
            yield node
            yield from _own_nodes(node)


def _keys(result: ast.expr | None, function: Function) -> frozenset[str] | None:
    if isinstance(result, ast.Dict):
        return _literal(result)
    if isinstance(result, ast.IfExp):
        parts = [_keys(part, function) for part in (result.body, result.orelse)]
        return None if None in parts else frozenset[str]().union(*(part for part in parts if part is not None))
    if isinstance(result, ast.Constant) and isinstance(result.value, bool | int | float):
        return OF_A_NUMBER
    if isinstance(result, ast.Compare | ast.BoolOp):
        return OF_A_NUMBER
    is_conversion = isinstance(result, ast.Call) and isinstance(result.func, ast.Name)
    if is_conversion and result.func.id in ("float", "int", "bool"):  # type: ignore[union-attr]
        return OF_A_NUMBER
    return _variable(result.id, function) if isinstance(result, ast.Name) else None


def _literal(result: ast.Dict) -> frozenset[str] | None:
    names = [key.value for key in result.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
    return frozenset(names) if len(names) == len(result.keys) else None


def _variable(name: str, function: Function) -> frozenset[str] | None:
    """Return the keys of a variable that is set to dict literals and by `name["key"] = ...`, and not used otherwise."""
    found = frozenset[str]()
    assigned = loaded = 0
    for node in _own_nodes(function):
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == name for to in node.targets):
            if not isinstance(node.value, ast.Dict) or (keys := _literal(node.value)) is None:
                return None
            found, assigned = found | keys, assigned + 1
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == name:
            if not (isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str)):
                return None
            found, loaded = found | {node.slice.value}, loaded + 1
        elif isinstance(node, ast.Return) and isinstance(node.value, ast.Name) and node.value.id == name:
            loaded += 1
    uses = [node for node in _own_nodes(function) if isinstance(node, ast.Name) and node.id == name]
    return found if assigned and len(uses) == assigned + loaded else None
