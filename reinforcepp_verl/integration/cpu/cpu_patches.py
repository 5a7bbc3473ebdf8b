"""Patches where verl 0.9.1 has no hook for a machine without an accelerator; applied on the CPU only.

Each patch is applied when verl imports the module it changes, so importing the plugin stays cheap.
`tests/integration/cpu/test_cpu_patches.py` fails when one of them is no longer needed.
"""

from __future__ import annotations

import functools
from typing import Any

import wrapt

from reinforcepp_verl.integration.cpu import agent_loop_objects, gathered_puts, packing_engine

CPU_BACKEND = "cpu:gloo"


def use_one_gloo_backend(module: Any) -> None:
    """verl requests "cpu:gloo,<device>:<backend>", which names the CPU twice here and is rejected by torch."""
    original = module.initialize_global_process_group_ray

    @functools.wraps(original)
    def initialize(timeout_second: int | None = None, backend: str | None = None) -> None:
        original(timeout_second=timeout_second, backend=backend or CPU_BACKEND)

    module.initialize_global_process_group_ray = initialize


def offload_without_pinning(module: Any) -> None:
    """verl offloads the reference model into pinned memory, which only an accelerator driver can allocate."""
    original = module.CPUOffloadPolicy

    def policy(pin_memory: bool = False) -> Any:
        return original(pin_memory=False)

    module.CPUOffloadPolicy = policy


def copy_received_weights(module: Any) -> None:
    """Received tensors are views of a shared-memory bucket; without a device copy vLLM would keep the bucket open.

    For the same reason an error in loading them is raised after the bucket is closed: the error of closing it would
    hide it. The buckets after it are received and dropped.
    """
    receiver = module.BucketedWeightReceiver
    original = receiver.receive_weights

    @functools.wraps(original)
    def receive(self: Any, on_bucket_received: Any) -> None:
        errors: list[Exception] = []

        def on_copied_bucket(weights: list, is_last: bool) -> None:
            copies = [(name, tensor.clone()) for name, tensor in weights]
            weights.clear()  # the error would keep them, as part of its traceback
            try:
                if not errors:
                    on_bucket_received(copies, is_last)
            except Exception as error:
                errors.append(error)

        original(self, on_bucket_received=on_copied_bucket)
        if errors:
            raise errors[0]

    receiver.receive_weights = receive


PATCHES = {
    "verl.utils.distributed": use_one_gloo_backend,
    "verl.workers.engine.fsdp.transformer_impl": offload_without_pinning,
    "verl.workers.rollout.vllm_rollout.bucketed_weight_transfer": copy_received_weights,
    gathered_puts.MODULE: gathered_puts.gather,
    agent_loop_objects.MODULE: agent_loop_objects.call_classes,
}


def install() -> None:
    """Apply every patch as soon as its module is imported."""
    for module_name, patch in PATCHES.items():
        wrapt.register_post_import_hook(patch, module_name)
    wrapt.register_post_import_hook(packing_engine.register, packing_engine.MODULE)
