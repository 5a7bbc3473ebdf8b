"""Draws the saves of a run out to seconds, so that a kill can fall into any part of one; for kill_loop.py.

verl imports this module in all its processes (VERL_USE_EXTERNAL_MODULES).
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from typing import Any

import torch

from reinforcepp_verl.checkpoints import durable, manifest

PAUSE_S = float(os.environ.get("SLOW_SAVES_PAUSE_S", "0.25"))


def slowed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with a pause behind it."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        time.sleep(PAUSE_S)
        return result

    return call


# verl's files one by one, then what makes a checkpoint of them.
torch.save = slowed(torch.save)
manifest.describe_files = slowed(manifest.describe_files)
durable.write = slowed(durable.write)
durable.rename = slowed(durable.rename)
