"""Keeps the shared memory of each weight transfer for seconds, so that a kill can interrupt a transfer.

verl imports this module in all its processes (VERL_USE_EXTERNAL_MODULES).
"""

from __future__ import annotations

import functools
import time
from typing import Any

import wrapt

PAUSE_S = 5.0


def slow_down(module: Any) -> None:
    """Let the sender wait between creating its buffer and filling it."""
    create_buffer = module.BucketedWeightSender._init_buffer

    @functools.wraps(create_buffer)
    def create_buffer_and_wait(self: Any) -> None:
        create_buffer(self)
        time.sleep(PAUSE_S)

    module.BucketedWeightSender._init_buffer = create_buffer_and_wait


wrapt.register_post_import_hook(slow_down, "verl.workers.rollout.vllm_rollout.bucketed_weight_transfer")
