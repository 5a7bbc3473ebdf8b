"""Each patch of verl for the CPU: what fails without it, and that it fixes this.

If a test named "without" fails after an upgrade, remove the patch.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import threading
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from torch.distributed.fsdp import CPUOffloadPolicy

from reinforcepp_verl.common.hardware import cpu_platform_wanted
from reinforcepp_verl.integration.cpu import cpu_patches, packing_engine
from reinforcepp_verl.integration.cpu.environment import CPU_ENVIRONMENT

pytestmark = pytest.mark.skipif(not cpu_platform_wanted(), reason="this machine has an accelerator")


@pytest.fixture(autouse=True)
def patched_verl() -> None:
    importlib.import_module("reinforcepp_verl.plugin")


@pytest.fixture
def one_process_group(monkeypatch, tmp_path) -> Iterator[None]:
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "DIST_INIT_METHOD": f"file://{tmp_path}/store"}.items():
        monkeypatch.setenv(name, value)
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


def test_every_patch_is_applied_when_verl_imports_its_module():
    for name in cpu_patches.PATCHES:
        module(name)
    distributed = module("verl.utils.distributed")
    assert distributed.initialize_global_process_group_ray.__wrapped__.__module__ == "verl.utils.distributed"
    assert module("verl.workers.engine.fsdp.transformer_impl").CPUOffloadPolicy is not CPUOffloadPolicy
    weights = module("verl.workers.rollout.vllm_rollout.bucketed_weight_transfer")
    assert hasattr(weights.BucketedWeightReceiver.receive_weights, "__wrapped__")


def test_the_worker_uses_the_patched_process_group():
    # It imports the function by name: too early an import would leave it with verl's own.
    function = module("verl.workers.engine_workers").initialize_global_process_group_ray
    assert inspect.unwrap(function) is not function


def test_without_the_patch_torch_rejects_verls_backend(one_process_group):
    unpatched = inspect.unwrap(module("verl.utils.distributed").initialize_global_process_group_ray)
    with pytest.raises(ValueError, match="cpu"):
        unpatched()


def test_with_the_patch_the_process_group_is_gloo(one_process_group):
    module("verl.utils.distributed").initialize_global_process_group_ray(timeout_second=60)
    assert torch.distributed.get_backend_config() == "cpu:gloo"
    tensor = torch.ones(1)
    torch.distributed.all_reduce(tensor)
    assert tensor.item() == 1


def test_a_backend_that_the_caller_names_is_kept():
    received: dict[str, object] = {}
    fake = ModuleType("fake")
    fake.initialize_global_process_group_ray = lambda **kwargs: received.update(kwargs)
    cpu_patches.use_one_gloo_backend(fake)
    fake.initialize_global_process_group_ray(backend="gloo")
    assert received == {"timeout_second": None, "backend": "gloo"}


def test_without_the_patch_memory_cannot_be_pinned():
    with pytest.raises(RuntimeError):
        torch.empty(1).pin_memory()


def test_with_the_patch_offloading_does_not_pin():
    policy = module("verl.workers.engine.fsdp.transformer_impl").CPUOffloadPolicy(pin_memory=True)
    assert isinstance(policy, CPUOffloadPolicy)
    assert not policy.pin_memory


def receive(receive_weights, tmp_path) -> list[tuple[str, torch.Tensor]]:
    """Send two tensors through verl's shared-memory bucket and keep what the callback gets, as vLLM does."""
    transfer = module("verl.workers.rollout.vllm_rollout.bucketed_weight_transfer")
    handle = f"ipc://{tmp_path}/socket"
    sender = transfer.BucketedWeightSender(handle, bucket_size_mb=1, use_shm=True)
    receiver = transfer.BucketedWeightReceiver(handle, device=torch.device("cpu"), use_shm=True)
    weights = [("a", torch.arange(4.0)), ("b", torch.ones(2, 3))]
    sending = threading.Thread(target=lambda: asyncio.run(sender.async_send_weights(weights)), daemon=True)
    sending.start()
    kept: list[tuple[str, torch.Tensor]] = []
    try:
        receive_weights(receiver, on_bucket_received=lambda bucket, is_last: kept.extend(bucket))
    finally:
        sending.join(0.5)
    return kept


@pytest.mark.timeout(60)
def test_without_the_patch_a_kept_weight_holds_the_bucket_open(tmp_path):
    transfer = module("verl.workers.rollout.vllm_rollout.bucketed_weight_transfer")
    with pytest.raises(BufferError, match="exported pointers"):
        receive(inspect.unwrap(transfer.BucketedWeightReceiver.receive_weights), tmp_path)


@pytest.mark.timeout(60)
def test_with_the_patch_kept_weights_are_copies(tmp_path):
    transfer = module("verl.workers.rollout.vllm_rollout.bucketed_weight_transfer")
    kept = dict(receive(transfer.BucketedWeightReceiver.receive_weights, tmp_path))
    assert kept["a"].tolist() == [0.0, 1.0, 2.0, 3.0]
    assert torch.equal(kept["b"], torch.ones(2, 3))


def test_verl_has_no_fsdp_engine_for_the_cpu_but_the_one_registered_here():
    module(packing_engine.MODULE)
    engines = module("verl.workers.engine.base").EngineRegistry._engines
    for kind in ("language_model", "value_model"):
        devices = engines[kind]["fsdp2"]
        assert set(devices) == {"cpu", "cuda", "npu"}
        assert devices[CPU_ENVIRONMENT["VERL_ENGINE_DEVICE"]] is devices["cpu"]
    assert engines["language_model"]["fsdp2"]["cpu"].__module__ == packing_engine.__name__
    assert engines["value_model"]["fsdp2"]["cpu"].__module__ == packing_engine.MODULE
