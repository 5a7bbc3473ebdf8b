"""Slows the saves of a run down to seconds, so that a kill can interrupt any part of one; for kill_loop.py.

verl imports this module in all its processes (VERL_USE_EXTERNAL_MODULES).
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from typing import Any

import torch

from reinforcepp_verl.checkpoints import manifest
from reinforcepp_verl.common import durable

PAUSE_S = float(os.environ.get("SLOW_SAVES_PAUSE_S", "0.25"))


def slowed(function: Callable[..., Any], counts: Callable[..., bool] = lambda *_: True) -> Callable[..., Any]:
    """Return the function with a pause after the relevant calls."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        if counts(*args):
            time.sleep(PAUSE_S)
        return result

    return call


def into_a_file(_content: Any, target: Any, *_: Any) -> bool:
    """Return True for a save, False for a message: tensors are also sent with torch.save."""
    return isinstance(target, str)


# verl's files one by one, then the files that seal the checkpoint.
torch.save = slowed(torch.save, into_a_file)
manifest.describe = slowed(manifest.describe)
durable.write = slowed(durable.write)
durable.rename = slowed(durable.rename)
