"""vLLM general plugin: three changes that vLLM's CPU build needs under verl.

vLLM calls `register` in each of its processes; it does nothing unless vLLM runs on the CPU.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing import resource_tracker

import torch

from reinforcepp_verl.integration.cpu import forked_python

NAP_S = 0.0003


def keep_weight(self: object, layer: torch.nn.Module) -> None:
    """Replace `UnquantizedLinearMethod.process_weights_after_loading`: compute with the weight as loaded.

    vLLM packs a Linear's weight into an opaque kernel layout after the first load and drops the parameter; when verl
    then sends new weights, `load_weights` fails with "'Parameter' object has no attribute 'weight_loader'". The plain
    path used here is vLLM's own for layers marked `skip_weight_relayout`.
    """
    layer.cpu_linear = torch.nn.functional.linear  # type: ignore[assignment]


def nap() -> None:
    """Replace `sched_yield` in the readers of vLLM's message queue, which busy-wait for a second after each message.

    Busy-waiting takes a core from the trainer, Ray and the agent loops on the same machine: on two cores, 40% of all
    CPU time of a step. Sleeping delays a message by a fraction of a millisecond.
    """
    time.sleep(NAP_S)


def fork_processes() -> None:
    """Let the run's fork server, if there is one, start vLLM's processes."""
    stand_in = os.environ.get(forked_python.VARIABLE)
    # With threads bound to cores, vLLM passes each process a variable that OpenMP reads when it is loaded.
    if stand_in and os.environ.get("VLLM_CPU_OMP_THREADS_BIND") == "nobind":
        # Start Python's own resource tracker first: the cleanup after a run recognizes it by its command line.
        resource_tracker.ensure_running()
        multiprocessing.set_executable(stand_in)


def register() -> None:
    """Apply them."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    from vllm.distributed.device_communicators import shm_broadcast
    from vllm.model_executor.layers.linear import UnquantizedLinearMethod

    UnquantizedLinearMethod.process_weights_after_loading = keep_weight  # type: ignore[method-assign]
    shm_broadcast.sched_yield = nap
    fork_processes()
