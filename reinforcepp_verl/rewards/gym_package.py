"""The package reasoning-gym, an extra of this one. Its import takes seconds: only what runs a task does that."""

from __future__ import annotations

import importlib
import warnings
from importlib.util import find_spec
from typing import Any

EXTRA = "reasoning_gym"
NEEDED = ("reasoning_gym", "drawsvg")
"""The second is imported by a dependency of the first."""


def missing() -> str | None:
    """Return what to install if the package cannot be imported."""
    lacking = [module for module in NEEDED if find_spec(module) is None]
    return f"{lacking[0]} is not installed; run `pip install 'reinforcepp-verl[{EXTRA}]'`" if lacking else None


def factory() -> Any:
    """Return the module with `create_dataset` and `DATASETS`, which maps names to classes of data and settings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # of a dependency, the first time that Python compiles it
        return importlib.import_module("reasoning_gym.factory")
