"""Keeps the batches of a run, as the estimator left them, in RUN/batches/STEP.pt; for end-to-end tests.

verl imports this module in all its processes (VERL_USE_EXTERNAL_MODULES).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import wrapt

TRAINERS = "reinforcepp_verl.integration.trainers"
COLUMNS = (
    *("prompts", "responses", "response_mask", "loss_mask", "rm_scores", "score_mask", "token_level_rewards"),
    *("advantages", "returns", "old_log_probs", "ref_log_prob", "rollout_log_probs"),
)


def keeping(compute_advantage: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the trainer's method: save each column as a list of rows, with the keys of the rows."""

    @functools.wraps(compute_advantage)
    def wrapper(trainer: Any, batch: Any, metrics: dict[str, Any]) -> Any:
        import torch
        import transfer_queue as tq

        batch = compute_advantage(trainer, batch, metrics)
        found = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=list(COLUMNS))
        kept = {name: [row.clone() for row in found[name].unbind()] for name in COLUMNS if name in found}
        real = [not tag.get("is_padding", False) for tag in batch.tags]
        folder = Path(os.environ["REINFORCEPP_RUN"]) / "batches"
        folder.mkdir(exist_ok=True)
        torch.save({"keys": list(batch.keys), "real": real, **kept}, folder / f"{trainer.global_steps}.pt")
        return batch

    return wrapper


def wrap(trainers: ModuleType) -> None:
    """Wrap the method of all our trainers."""
    trainers.ReinforceppTrainer._compute_advantage = keeping(trainers.ReinforceppTrainer._compute_advantage)


# Not imported here: verl's import, which imports this module, is not complete yet.
wrapt.register_post_import_hook(wrap, TRAINERS)
