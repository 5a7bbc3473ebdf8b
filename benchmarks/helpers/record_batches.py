"""Saves what a run has computed for each training batch as RUN/batches/STEP.json; for tests.

verl imports this module in all its processes (VERL_USE_EXTERNAL_MODULES). The rows are read back from verl's queue,
where the workers that train on them read them too.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import wrapt

COLUMNS = [
    *("prompts", "responses", "response_mask", "rm_scores", "score_mask"),
    *("old_log_probs", "ref_log_prob", "returns", "advantages"),
]


def recorded(compute_advantage: Callable[..., Any]) -> Callable[..., Any]:
    """Return the trainer's method with a record of its batch."""

    @functools.wraps(compute_advantage)
    def call(trainer: Any, batch: Any, metrics: dict[str, Any]) -> Any:
        import transfer_queue as tq

        result = compute_advantage(trainer, batch, metrics)
        found = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=COLUMNS)
        columns = {name: [row.tolist() for row in found[name].unbind()] for name in COLUMNS}
        file = Path(os.environ["REINFORCEPP_RUN"]) / "batches" / f"{trainer.global_steps}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"keys": batch.keys, **columns}))
        return result

    return call


@wrapt.when_imported("reinforcepp_verl.integration.trainers")
def _wrap(trainers: ModuleType) -> None:
    trainers.ReinforceppTrainer._compute_advantage = recorded(trainers.ReinforceppTrainer._compute_advantage)
