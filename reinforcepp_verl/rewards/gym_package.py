"""The package reasoning-gym, an extra of this one. Its import takes seconds: only what runs a task does that."""

from __future__ import annotations

import importlib
import warnings
from importlib.util import find_spec
from typing import Any

DATA_SOURCE_PREFIX = "reasoning_gym/"
"""The data source of a task is this and its name."""


def missing() -> str | None:
    """Return what to install if the package cannot be imported."""
    return None if find_spec("reasoning_gym") else "reasoning-gym is not installed; run `pip install reasoning-gym`"


def factory() -> Any:
    """Return the module with `create_dataset` and `DATASETS`, which maps names to classes of data and settings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # of a dependency, the first time that Python compiles it
        return importlib.import_module("reasoning_gym.factory")
