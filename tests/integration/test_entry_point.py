"""verl loads the plugin by its entry point, in new processes as in a training run."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module, metadata

import pytest

REPORT = """
from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY
print("reinforcepp" in ADV_ESTIMATOR_REGISTRY, "reinforcepp" in POLICY_LOSS_REGISTRY)
"""


def registered_after(code: str, **environment: str) -> str:
    """Run code in a new process and return whether the estimator and the loss are registered at its end."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("VERL_")}
    done = subprocess.run(
        [sys.executable, "-c", code + REPORT], env=clean | environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1]


def test_entry_point_is_a_module_because_verl_calls_nothing():
    [entry_point] = metadata.entry_points(group="verl.plugins", name="reinforcepp")
    assert entry_point.value == "reinforcepp_verl.plugin"
    assert entry_point.load() is import_module("reinforcepp_verl.plugin")
    # verl lowers the names in VERL_USE_EXTERNAL_PLUGINS and not those of entry points.
    assert entry_point.name == entry_point.name.lower()


def test_vllm_entry_point_is_a_function_because_vllm_calls_it():
    [entry_point] = metadata.entry_points(group="vllm.general_plugins", name="reinforcepp_cpu")
    assert entry_point.value == "reinforcepp_verl.integration.cpu.vllm_plugin:register"
    assert callable(entry_point.load())


@pytest.mark.long
@pytest.mark.parametrize(
    "code",
    ["import verl", "import reinforcepp_verl.plugin", "import reinforcepp_verl.integration.replay_buffer"],
    ids=["verl first", "plugin first", "sampler first"],
)
def test_it_is_registered_whatever_is_imported_first(code):
    assert registered_after(code) == "True True"


@pytest.mark.long
def test_it_can_be_named_and_left_out():
    assert registered_after("import verl", VERL_USE_EXTERNAL_PLUGINS="none") == "False False"
    assert registered_after("import verl", VERL_USE_EXTERNAL_PLUGINS="other, Reinforcepp") == "True True"


def test_importing_the_package_does_not_import_verl():
    code = "import sys, reinforcepp_verl, reinforcepp_verl.config.search_path, reinforcepp_verl.cli\n"
    code += "assert not {'verl', 'ray', 'torch', 'matplotlib'} & set(sys.modules), 'heavy'"
    subprocess.run([sys.executable, "-c", code], check=True)
