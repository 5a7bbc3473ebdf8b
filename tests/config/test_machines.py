"""`cluster=` is this machine unless one is named, in any order of overrides, without settings of another machine."""

from __future__ import annotations

import os

import pytest
from omegaconf import OmegaConf

from reinforcepp_verl.common import hardware
from reinforcepp_verl.config import machines, search_path
from reinforcepp_verl.config.schema import compose_base as compose
from reinforcepp_verl.preflight import examine
from reinforcepp_verl.preflight import machine as preflight_machine

RECIPE = "+recipe=math_rlvr/arithmetic"
NAMED = {path.stem for path in (search_path.config_dir() / "cluster").glob("*.yaml")} - {"auto"}


@pytest.fixture
def machine(monkeypatch):
    """Simulate a machine with GPUs of these sizes."""

    def with_gpus(*gib: float) -> None:
        monkeypatch.delenv("VERL_PLATFORM", raising=False)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(hardware, "DEVICE_NODES", ("/",) if gib else ())
        monkeypatch.setattr(hardware, "gpu_memories_gib", lambda: gib)

    return with_gpus


def test_without_a_cluster_it_is_the_cpu_or_all_gpus(machine):
    machine()
    assert compose(RECIPE) == compose(RECIPE, "cluster=cpu")
    machine(79.0, 79.0)
    config = compose(RECIPE)
    assert config == compose(RECIPE, "cluster=local") == compose(RECIPE, "cluster=auto")
    assert (config.trainer.device, config.trainer.nnodes, config.trainer.n_gpus_per_node) == ("cuda", 1, 2)


def test_local_has_as_many_gpus_as_a_run_may_use(machine, monkeypatch):
    machine(79.0, 79.0, 79.0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2")
    assert compose("cluster=local").trainer.n_gpus_per_node == 2


def test_a_cpu_has_a_virtual_gpu_for_each_worker_and_for_a_reward_model_with_an_engine_of_its_own():
    recipe = ("+recipe=rlhf/length_bias_cpu", "cluster=cpu")
    assert compose(*recipe).ray_kwargs.ray_init.num_gpus == 2
    assert compose(*recipe, "trainer.n_gpus_per_node=2").ray_kwargs.ray_init.num_gpus == 3
    assert compose(*recipe, "reward.reward_model.enable=false").ray_kwargs.ray_init.num_gpus == 1
    assert compose(RECIPE, "cluster=cpu").ray_kwargs.ray_init.num_gpus == 1


def test_accelerators_that_cannot_be_counted_must_be_given(machine, monkeypatch):
    machine()
    assert compose("cluster=local").trainer.n_gpus_per_node == 1, "a CPU, which the preflight refuses"
    monkeypatch.setattr(hardware, "DEVICE_NODES", ("/",))
    [problem] = examine(compose(RECIPE, "cluster=local")).errors
    assert problem.startswith("trainer.n_gpus_per_node is null: nvidia-smi did not count ")
    assert "; set trainer.n_gpus_per_node" in problem
    assert preflight_machine.counted(compose("cluster=local", "trainer.n_gpus_per_node=8")) == []


def test_a_driver_that_does_not_answer_is_not_waited_for(monkeypatch, tmp_path):
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\nexec sleep 60\n", encoding="utf-8")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(hardware, "ANSWER_S", 0.1)
    assert hardware.gpu_memories_gib.__wrapped__() == ()


@pytest.mark.parametrize("name", ["cpu", "h100x8"])
def test_the_order_of_cluster_and_recipe_does_not_matter(name):
    recipe = "+recipe=math_rlvr/qwen25_7b_dapo_separate_async"
    before, after = compose(f"cluster={name}", recipe), compose(recipe, f"cluster={name}")
    assert before == after
    assert before.trainer.n_gpus_per_node == 4, "the recipe's own split of the GPUs"


def test_no_cpu_setting_remains_on_gpus():
    """Except for its own few keys, a machine with GPUs has the values of verl and the base."""
    plain, local = (OmegaConf.to_container(compose(cluster)) for cluster in ("~cluster", "cluster=local"))
    local["trainer"]["n_gpus_per_node"] = plain["trainer"]["n_gpus_per_node"]
    assert local["ray_kwargs"]["ray_init"].pop("address") == "local"
    for model in (local["actor_rollout_ref"]["model"], local["critic"]["model"]):
        assert model["override_config"].pop("attn_implementation") == "${reinforcepp.attention:}"
    assert local == plain


@pytest.mark.parametrize("name", sorted(NAMED - {"cpu", "local"}))
def test_a_named_machine_states_the_number_and_size_of_its_gpus(machine, name):
    machine(10.0, 10.0, 10.0)
    described = machines.described(compose(f"cluster={name}"))
    assert (
        described
        == {
            "h100": "1 GPU of 79 GiB",
            "h100x8": "8 GPUs of 79 GiB",
            "h100x8_4nodes": "32 GPUs of 79 GiB",
            "rtx4090": "1 GPU of 24 GiB",
        }[name]
    )


@pytest.mark.parametrize("recipe", search_path.recipe_names())
def test_a_recipe_names_its_machine_and_does_not_select_one(recipe):
    file = search_path.config_dir() / "recipe" / f"{recipe}.yaml"
    assert OmegaConf.load(file).hardware.meant_for in NAMED
    assert "/cluster" not in file.read_text(encoding="utf-8")
