"""The fields of verl's dataclasses, read from verl's source: importing verl takes seconds.

verl instantiates the dataclass that a node names by `_target_`, so its fields are valid keys even if no YAML file lists
them, and their annotations are the types of the values.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reinforcepp_verl.config import search_path

REPLACED = {
    "reinforcepp_verl.integration.policy_loss_config.PolicyLossWithOptions": "verl.workers.config.PolicyLossConfig"
}
"""Our classes that replace one of verl's."""


@dataclass(frozen=True)
class Field:
    """A field as written: `Optional[int]`; `null_by_default` if it is `= None`, whatever the annotation says."""

    annotation: str
    null_by_default: bool


@functools.cache
def fields_of(target: str) -> Mapping[str, Field]:
    """Return the fields of a class of verl by name, with the inherited ones; none if verl has no such class."""
    package, _, name = REPLACED.get(target, target).rpartition(".")
    if not package.startswith("verl."):
        return {}
    path = search_path.verl_config_dir().parents[1].joinpath(*package.split(".")[1:])
    files = [path.with_suffix(".py")] if path.with_suffix(".py").is_file() else sorted(path.glob("*.py"))
    return _fields(name, {node.name: node for file in files for node in _classes(file)})


@functools.cache
def _classes(file: Path) -> list[ast.ClassDef]:
    return [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]


def _fields(name: str, classes: Mapping[str, ast.ClassDef]) -> dict[str, Field]:
    if name not in classes:
        return {}
    node, found = classes[name], dict[str, Field]()
    for base in node.bases:
        if isinstance(base, ast.Name):
            found |= _fields(base.id, classes)
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            is_null = isinstance(item.value, ast.Constant) and item.value.value is None
            found[item.target.id] = Field(ast.unparse(item.annotation), is_null)
    return found
