"""What the CPU settings change in vLLM: a Linear can be loaded again, and the model runs in the engine's process."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from reinforcepp_verl.common.hardware import cpu_platform_wanted
from reinforcepp_verl.integration.cpu.environment import CPU_ENVIRONMENT

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
    pytest.mark.skipif(not cpu_platform_wanted(), reason="this machine has an accelerator"),
    pytest.mark.timeout(180),
]

# A Linear as in Llama, loaded as `load_weights` does and then loaded again as verl does after every step.
LOAD_TWICE = """
import sys, torch
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.distributed import init_distributed_environment, initialize_model_parallel
from vllm.model_executor.layers.linear import ColumnParallelLinear

if sys.argv[1] == "with":
    from reinforcepp_verl.integration.cpu.vllm_plugin import register
    register()

def load(layer, weight):
    layer.weight.weight_loader(layer.weight, weight)

with set_current_vllm_config(VllmConfig()), torch.no_grad():
    init_distributed_environment(1, 0, "file://" + sys.argv[2], 0, "gloo")
    initialize_model_parallel(1)
    layer = ColumnParallelLinear(64, 32, bias=False, params_dtype=torch.float32)
    x = torch.randn(4, 64)
    for step in range(2):
        weight = torch.randn(32, 64)
        load(layer, weight)
        if step == 0:
            layer.quant_method.process_weights_after_loading(layer)
        torch.testing.assert_close(layer(x)[0], x @ weight.T)
        print("loaded", step)
"""


def load_twice(plugin: str, tmp_path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VLLM_TARGET_DEVICE": "cpu", "VLLM_PLUGINS": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LOAD_TWICE, plugin, str(tmp_path / "store")]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_without_the_plugin_a_second_load_fails(tmp_path):
    done = load_twice("without", tmp_path)
    assert "loaded 0" in done.stdout, done.stderr
    assert "loaded 1" not in done.stdout
    assert "has no attribute 'weight_loader'" in done.stderr, done.stderr


def test_with_the_plugin_a_second_load_takes_effect(tmp_path):
    done = load_twice("with", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "loaded 1" in done.stdout


EXECUTOR = """
import sys
from vllm.engine.arg_utils import EngineArgs

engine = EngineArgs(model=sys.argv[1], distributed_executor_backend="uni", enforce_eager=True, max_model_len=32)
print("executor:", engine.create_engine_config().parallel_config.distributed_executor_backend)
"""


@pytest.mark.parametrize(("variables", "executor"), [({}, "mp"), (CPU_ENVIRONMENT, "uni")])
def test_the_model_runs_in_the_process_of_the_engine(arithmetic, variables, executor):
    clean = {name: value for name, value in os.environ.items() if name not in CPU_ENVIRONMENT}
    environment = {**clean, "VLLM_TARGET_DEVICE": "cpu", **variables}
    command = [sys.executable, "-c", EXECUTOR, str(arithmetic / "data" / "arithmetic" / "model")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert f"executor: {executor}\n" in done.stdout, done.stderr
