"""Importing the plugin registers REINFORCE++ with verl, once and for all."""

from __future__ import annotations

import importlib
import sys

import pytest
from verl.plugin.platform.platform_manager import PlatformRegistry
from verl.trainer.ppo.core_algos import (
    ADV_ESTIMATOR_REGISTRY,
    POLICY_LOSS_REGISTRY,
    get_adv_estimator_fn,
    get_policy_loss_fn,
)

from reinforcepp_verl.common.hardware import cpu_platform_wanted
from reinforcepp_verl.config import search_path
from reinforcepp_verl.integration import adapters


@pytest.fixture
def run_plugin_again(monkeypatch):
    """Execute the plugin module once more, as a second import under another name would."""

    def run() -> None:
        monkeypatch.delitem(sys.modules, "reinforcepp_verl.plugin")
        importlib.import_module("reinforcepp_verl.plugin")

    importlib.import_module("reinforcepp_verl.plugin")
    return run


def test_verl_finds_our_functions_by_name():
    for name in ("reinforcepp", "reinforcepp_baseline", "reinforce", "reinforce_reward_to_go", "raft"):
        assert get_adv_estimator_fn(name) is adapters.ESTIMATORS[name]
    assert get_policy_loss_fn("reinforcepp") is adapters.reinforcepp_policy_loss


def test_verls_own_functions_stay_as_they_are():
    for name in ("reinforce_plus_plus", "reinforce_plus_plus_baseline", "grpo", "rloo", "gae"):
        assert get_adv_estimator_fn(name).__module__ == "verl.trainer.ppo.core_algos"
    assert get_policy_loss_fn("vanilla").__module__ == "verl.trainer.ppo.core_algos"


@pytest.mark.skipif(not cpu_platform_wanted(), reason="this machine has an accelerator")
def test_the_cpu_platform_is_registered_where_it_is_wanted():
    assert PlatformRegistry.get("cpu").__module__ == "reinforcepp_verl.integration.cpu.platform"


def test_registering_twice_is_harmless(run_plugin_again):
    before = dict(ADV_ESTIMATOR_REGISTRY), dict(POLICY_LOSS_REGISTRY)
    run_plugin_again()
    search_path.register()
    assert (ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY) == before


def test_somebody_elses_policy_loss_of_our_name_is_not_overwritten(run_plugin_again, monkeypatch):
    monkeypatch.setitem(POLICY_LOSS_REGISTRY, "reinforcepp", lambda: None)
    with pytest.raises(ValueError, match="another package has registered the policy loss 'reinforcepp'"):
        run_plugin_again()


def test_somebody_elses_estimator_of_our_name_is_not_overwritten(run_plugin_again, monkeypatch):
    monkeypatch.setitem(ADV_ESTIMATOR_REGISTRY, "reinforcepp", lambda: None)
    with pytest.raises(ValueError, match="reinforcepp has already been registered"):
        run_plugin_again()
