"""Imports one module of a framework without what it does not need: GPU packages, engines, other subpackages."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def bare_package(name: str) -> None:
    """Make a subpackage importable without running its `__init__.py`, which imports all of the framework."""
    parent, _, last = name.rpartition(".")
    if parent in sys.modules:
        folders = list(sys.modules[parent].__path__)
    else:
        spec = importlib.util.find_spec(parent)
        assert spec is not None and spec.submodule_search_locations is not None, f"{parent} is not installed"
        folders = list(spec.submodule_search_locations)
    package = ModuleType(name)
    package.__path__ = [str(Path(folder, last)) for folder in folders]
    sys.modules[name] = package


def stub(name: str, **names: Any) -> None:
    """Stand in for a module that is imported but not called; any use of it raises AttributeError."""
    module = ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    vars(module).update(names)
    sys.modules[name] = module
