"""Importing the plugin registers REINFORCE++ with verl, once and for all."""

from __future__ import annotations

import importlib
import runpy
import sys

import pytest
from verl.plugin.platform.platform_manager import PlatformRegistry
from verl.trainer.ppo.core_algos import (
    ADV_ESTIMATOR_REGISTRY,
    POLICY_LOSS_REGISTRY,
    get_adv_estimator_fn,
    get_policy_loss_fn,
)

from reinforcepp_verl import plugin
from reinforcepp_verl.algorithm.registry import (
    ESTIMATORS,
    LOSSES,
    VERL_ESTIMATORS,
    VERL_LOSSES,
    Traits,
    unread_options,
)
from reinforcepp_verl.common.hardware import cpu_platform_wanted
from reinforcepp_verl.config import search_path
from reinforcepp_verl.integration.estimator_adapter import estimator_for_verl
from reinforcepp_verl.integration.loss_adapter import loss_for_verl


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
        assert get_adv_estimator_fn(name) is estimator_for_verl(name)
    assert get_policy_loss_fn("reinforcepp") is loss_for_verl("reinforcepp")


def test_the_names_that_verl_has_taken_are_those_of_its_registries():
    assert set(VERL_ESTIMATORS) == ADV_ESTIMATOR_REGISTRY.keys() - ESTIMATORS.keys()
    assert set(VERL_LOSSES) == POLICY_LOSS_REGISTRY.keys() - LOSSES.keys()


def test_what_modules_of_users_import():
    assert plugin.__all__ == [
        "SHAPING_OPTIONS",
        "STATISTICS_OPTIONS",
        "ClipRange",
        "Estimate",
        "LossBatch",
        "LossTerms",
        "Memory",
        "ReinforceppOptions",
        "RewardBatch",
        "Traits",
        "register_estimator",
        "register_policy_loss",
    ]


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


@pytest.fixture
def forget(monkeypatch):
    """Take back what a test registers."""
    for registry in (ESTIMATORS, LOSSES, ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY):
        for name in ("mine", "other"):
            monkeypatch.setitem(registry, name, None)
            monkeypatch.delitem(registry, name)


def estimator(batch, options, *, memory=None):
    raise NotImplementedError


@pytest.mark.usefixtures("forget")
def test_an_estimator_from_outside_stands_beside_ours():
    plugin.register_estimator("mine", estimator, traits=Traits(needs_group=True))
    assert get_adv_estimator_fn("mine") is estimator_for_verl("mine")
    assert ESTIMATORS["mine"].function is estimator
    plugin.register_estimator("mine", estimator, traits=Traits(needs_group=True))
    with pytest.raises(ValueError, match="estimator 'mine': the name is taken by estimator in .*test_registration.py"):
        plugin.register_estimator("mine", lambda batch, options: None)
    for taken in ("reinforcepp", "grpo"):
        with pytest.raises(ValueError, match=f"estimator '{taken}': .*choose another"):
            plugin.register_estimator(taken, estimator)


@pytest.mark.usefixtures("forget")
def test_a_module_that_is_imported_and_run_as_a_script_registers_once(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(
        "from reinforcepp_verl.plugin import register_estimator\n"
        "def estimator(batch, options): raise NotImplementedError\n"
        "register_estimator('mine', estimator)\n"
    )
    for name in ("mine", "__main__"):
        runpy.run_path(str(script), run_name=name)
    assert ESTIMATORS["mine"].function.__module__ == "mine"


@pytest.mark.usefixtures("forget")
def test_a_policy_loss_from_outside_stands_beside_ours():
    plugin.register_policy_loss("mine", estimator)
    assert get_policy_loss_fn("mine") is loss_for_verl("mine")
    for taken in ("reinforcepp", "vanilla"):
        with pytest.raises(ValueError, match=f"policy loss '{taken}': .*choose another"):
            plugin.register_policy_loss(taken, estimator)
    with pytest.raises(ValueError, match="options of the policy loss other are .*: they must be a dataclass"):
        plugin.register_policy_loss("other", estimator, options=dict)


@pytest.mark.usefixtures("forget")
def test_an_estimator_reads_the_options_that_its_traits_declare():
    options = plugin.ReinforceppOptions(population="sample", zero_signal="pin", nonfinite="drop")
    plugin.register_estimator("mine", estimator)
    plugin.register_estimator("other", estimator, traits=Traits(options_read=frozenset({"zero_signal"})))
    assert unread_options("mine", options) == ["population", "zero_signal"]
    assert unread_options("other", options) == ["population"]
    with pytest.raises(ValueError, match="options_read has populations; known names: baseline, "):
        Traits(options_read=frozenset({"populations"}))
