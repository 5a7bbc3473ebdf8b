"""`reinforcepp check` on a machine that has neither data nor model nor GPU nor network."""

from __future__ import annotations

import socket

import pytest
from omegaconf import OmegaConf

from reinforcepp_verl.config import search_path


@pytest.fixture(autouse=True)
def fresh_machine(tmp_path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("there is no network")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


# tests/config/test_recipes.py checks every recipe, without the command around it.
QUICK = ("math_rlvr/arithmetic", "math_rlvr/qwen25_15b_math_lora", "math_rlvr/qwen25_7b_dapo_separate_async")
RECIPES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in search_path.recipe_names()]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_shows_its_plan_and_warns_of_missing_data(reinforcepp, recipe):
    done = reinforcepp("check", f"+recipe={recipe}")
    assert done.exit_code == 0, done.output
    assert "one step" in done.stdout and "optimizer updates" in done.stdout
    assert "memory of one GPU, estimated" in done.stdout or recipe in (
        "agents/calculator",
        "math_rlvr/arithmetic",
        "math_rlvr/running_sums",
        "math_rlvr/sums_by_size",
        "math_rlvr/word_problems",
        "rlhf/length_bias_cpu",
    )
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert [line for line in warnings if "data.train_files: no such file" in line and "reinforcepp prepare" in line]
    assert all(line.startswith("warning: missing_files: ") for line in warnings), done.stderr
    assert done.stderr.splitlines()[-1] == f"configuration is valid, with {len(warnings)} warnings"


def test_it_plans_for_the_recipes_machine_and_prints_the_configuration_only_on_request(reinforcepp):
    recipe = "+recipe=math_rlvr/qwen25_7b_dapo"
    done = reinforcepp("check", recipe, "--yaml")
    assert "for cluster=h100x8 (8 GPUs of 79 GiB), as hardware.meant_for says" in done.stderr
    config = OmegaConf.create(done.stdout)
    assert (config.trainer.n_gpus_per_node, config.hardware.gpu_memory_gib) == (8, 79)
    other = reinforcepp("check", "cluster=rtx4090", recipe)
    assert "hardware.meant_for says" not in other.stderr
    assert "warning: memory_estimate: " in other.stderr
    assert "adv_estimator" not in other.stdout


def test_a_run_that_is_created_needs_its_data(reinforcepp, tmp_path):
    done = reinforcepp("create", "+recipe=math_rlvr/arithmetic")
    assert done.exit_code == 2
    assert "error: data.train_files: no such file" in done.stderr
    assert not (tmp_path / "runs").exists()
