"""Agent loops made by calling their class: the same object as Hydra's."""

from __future__ import annotations

import importlib
import inspect

import hydra
import pytest
from omegaconf import OmegaConf
from verl.experimental.agent_loop import agent_loop

from reinforcepp_verl.common.hardware import cpu_platform_wanted
from reinforcepp_verl.integration.cpu.agent_loop_objects import instantiate


class Loop:
    def __init__(self, **arguments):
        self.arguments = arguments

    @classmethod
    def make(cls, **arguments):
        return cls(made=True, **arguments)


def made(**arguments):
    return Loop(made=True, **arguments)


TARGET = {"_target_": f"{__name__}.Loop"}
CONFIGS = {
    "verl's": TARGET,
    "from a file": OmegaConf.create({"name": "mine", **TARGET, "turns": 3, "limit": None}),
    "overridden": OmegaConf.create({**TARGET, "tokenizer": "none"}),
    "a reference": OmegaConf.create({**TARGET, "turns": 3, "limit": "${turns}"}),
    "a function": {"_target_": f"{__name__}.made"},
    "a method": {"_target_": f"{__name__}.Loop.make"},
    "nested": OmegaConf.create({**TARGET, "inner": {**TARGET, "depth": 2}}),
    "a setting of Hydra's": OmegaConf.create({**TARGET, "_convert_": "all", "turns": [1, 2]}),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_it_makes_what_hydra_makes(config):
    tokenizer = object()
    ours, hydras = (make(config=config, tokenizer=tokenizer) for make in (instantiate, hydra.utils.instantiate))
    assert ours.arguments.keys() == hydras.arguments.keys() and ours.arguments["tokenizer"] is tokenizer
    for name, value in hydras.arguments.items():
        given = ours.arguments[name]
        assert (given.arguments, type(given)) == (value.arguments, Loop) if isinstance(value, Loop) else given == value


def test_a_class_that_is_missing_is_hydras_error():
    with pytest.raises(Exception, match=r"no\.such\.Loop"):
        instantiate(config={"_target_": "no.such.Loop"}, tokenizer=None)


@pytest.mark.skipif(not cpu_platform_wanted(), reason="this machine has an accelerator")
def test_verls_workers_use_it():
    importlib.import_module("reinforcepp_verl.plugin")
    assert agent_loop.hydra.utils.instantiate is instantiate


def test_without_the_patch_verl_uses_hydra_for_every_answer():
    source = inspect.getsource(agent_loop.AgentLoopWorker._run_agent_loop)
    assert "hydra.utils.instantiate(" in source and "_agent_loop_registry[agent_name]" in source
