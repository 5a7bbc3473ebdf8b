"""The CPU platform has everything that verl requires of a platform."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from reinforcepp_verl.common import hardware
from reinforcepp_verl.integration.cpu import environment
from reinforcepp_verl.integration.cpu.environment import CPU_ENVIRONMENT, compute_as_elsewhere, set_defaults
from reinforcepp_verl.integration.cpu.platform import PlatformCPU


@pytest.fixture
def platform(monkeypatch) -> PlatformCPU:
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    return PlatformCPU()


def test_it_implements_every_abstract_method_and_creates_tensors(platform):
    assert platform.is_available() and platform.is_platform_available(use_smi_check=True)
    assert torch.ones(2).to(platform.current_device()).device.type == platform.device_name == "cpu"
    assert platform.communication_backend_name() == "gloo"
    assert platform.ray_resource_name() == "GPU", "verl's resource check knows no other name"
    assert not platform.is_ipc_supported(), "weights must go through shared memory"


def test_seeds_reach_torch(platform):
    platform.manual_seed_all(3)
    first = torch.rand(2)
    platform.manual_seed(3)
    assert torch.equal(first, torch.rand(2))


def test_the_device_module_has_what_verl_calls_on_a_device(platform):
    module = platform.device_module
    free, total = module.mem_get_info()
    assert 0 < free <= total
    assert module.memory_allocated() == module.max_memory_reserved("cpu") == 0
    state = module.get_rng_state()
    first = torch.rand(2)
    module.set_rng_state(state)
    assert torch.equal(first, torch.rand(2))
    for name in ("empty_cache", "ipc_collect", "synchronize", "reset_peak_memory_stats", "set_device"):
        assert getattr(module, name)() is None


def test_no_op_methods_return(platform):
    platform.synchronize()
    platform.empty_cache()
    platform.set_device(0)
    with platform.nvtx_range("anything"):
        pass
    assert platform.get_device_capability() == (None, None)


def test_engines_get_the_users_variables(platform, monkeypatch):
    for name in CPU_ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    assert platform.rollout_env_vars() == CPU_ENVIRONMENT
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "4")
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    assert platform.rollout_env_vars() == {**CPU_ENVIRONMENT, "VLLM_CPU_KVCACHE_SPACE": "4"}


def test_the_users_choice_overrides_detection(monkeypatch, tmp_path):
    monkeypatch.setattr(hardware, "DEVICE_NODES", (str(tmp_path / "none"),))
    monkeypatch.delenv("VERL_PLATFORM", raising=False)
    assert hardware.cpu_platform_wanted()
    monkeypatch.setenv("VERL_PLATFORM", "nvidia")
    assert not hardware.cpu_platform_wanted()
    monkeypatch.setattr(hardware, "DEVICE_NODES", (str(tmp_path),))
    monkeypatch.setenv("VERL_PLATFORM", "")
    assert not hardware.cpu_platform_wanted()
    monkeypatch.setenv("VERL_PLATFORM", " CPU ")
    assert hardware.cpu_platform_wanted()


def test_variables_that_the_user_exported_are_kept(monkeypatch):
    for name in CPU_ENVIRONMENT:
        monkeypatch.setenv(name, "before")  # so that monkeypatch restores all of them
        monkeypatch.delenv(name)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    set_defaults()
    assert os.environ["OMP_NUM_THREADS"] == "4"
    assert os.environ["VLLM_TARGET_DEVICE"] == "cpu"


def test_verl_still_has_no_cpu_platform_of_its_own():
    assert importlib.util.find_spec("verl.plugin.platform.platform_cpu") is None


def test_processors_with_avx2_compute_alike(monkeypatch):
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    monkeypatch.setattr(environment, "cpu_flags", lambda: frozenset({"fpu"}))
    compute_as_elsewhere()
    assert "ATEN_CPU_CAPABILITY" not in os.environ
    monkeypatch.setattr(environment, "cpu_flags", lambda: frozenset({"avx2", "avx512f"}))
    compute_as_elsewhere()
    assert os.environ["ATEN_CPU_CAPABILITY"] == "avx2" and os.environ["MKL_CBWR"] == "COMPATIBLE"


@pytest.mark.skipif("avx2" not in hardware.cpu_flags(), reason="this processor has no AVX2")
def test_torch_then_uses_the_code_for_avx2():
    code = (
        "from reinforcepp_verl.integration.cpu.environment import compute_as_elsewhere; compute_as_elsewhere(); "
        "import torch; print(torch.backends.cpu.get_cpu_capability())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "AVX2", done.stderr
