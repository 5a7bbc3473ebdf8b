"""Makes numbers of a running CPU job NaN while a file POISON in its run folder names them; for faults.py.

verl imports this module where it loads a model (actor_rollout_ref.model.external_lib); it is also the reward function.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from verl.workers.engine.fsdp.transformer_impl import FSDPEngine

from reinforcepp_verl.rewards import arithmetic


def asked_for(what: str) -> bool:
    """Return True if the file POISON names `what`."""
    file = Path(os.environ["REINFORCEPP_RUN"]) / "POISON"
    return file.is_file() and file.read_text() == what


def compute_score(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Score like the arithmetic task, or return NaN if poisoned."""
    result = arithmetic.compute_score(*args, **kwargs)
    return {**result, "score": float("nan")} if asked_for("rewards") else result


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Return the local part of a tensor on this rank."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def poisoned(step: Callable[[FSDPEngine], float]) -> Callable[[FSDPEngine], float]:
    """Wrap an optimizer step: NaN in every gradient before it, or in one weight after it."""

    @functools.wraps(step)
    def wrapper(engine: FSDPEngine) -> float:
        weights = list(engine.module.parameters())
        if asked_for("gradients"):
            for weight in weights:
                local(weight.grad).fill_(float("nan"))
        norm = step(engine)
        if asked_for("weights"):
            with torch.no_grad():
                local(weights[-1]).view(-1)[0] = float("nan")
        return norm

    return wrapper


FSDPEngine.optimizer_step = poisoned(FSDPEngine.optimizer_step)
