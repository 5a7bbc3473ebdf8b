"""`+preset=NAME` sets all choices of its namesake at once, with any recipe and method, and verl accepts the result."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf
from verl.utils.config import omega_conf_to_dataclass

from reinforcepp_verl.algorithm.options import PRESETS
from reinforcepp_verl.config import search_path
from reinforcepp_verl.config.nodes import read_options
from reinforcepp_verl.config.schema import compose_base as compose
from reinforcepp_verl.preflight import examine

FOLDER = search_path.config_dir() / "preset"
ARITHMETIC = "+recipe=math_rlvr/arithmetic"
LOSS = {
    "openrlhf": ("token-mean", None),
    "paper": ("seq-mean-token-mean", None),
    "verl": ("token-mean", 3.0),
}


def problems(config, **where: bool) -> list[str]:
    """Return errors and warnings: a valid configuration has neither."""
    found = examine(config, **where)
    return [*found.errors, *map(str, found.warnings)]


@pytest.fixture(autouse=True)
def in_a_folder_with_the_model(arithmetic, monkeypatch) -> None:
    monkeypatch.chdir(arithmetic)


def test_there_is_one_file_per_preset():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(PRESETS) == set(LOSS)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("method", ["reinforcepp", "reinforcepp_baseline"])
def test_a_preset_sets_estimator_and_loss(preset, method):
    config = compose(ARITHMETIC, f"+method={method}", f"+preset={preset}")
    OmegaConf.to_container(config, resolve=True)
    assert "preset" not in config, "Hydra took +preset= for a plain key"
    assert config.algorithm.adv_estimator == method
    assert read_options(config.algorithm.reinforcepp) == PRESETS[preset]
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    assert (actor.loss_agg_mode, actor.clip_ratio_c) == LOSS[preset]
    assert (actor.policy_loss.loss_mode, actor.clip_ratio_low, actor.clip_ratio_high) == ("reinforcepp", None, None)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_arithmetic_recipe_has_no_problems_with_any_preset(preset):
    assert problems(compose(ARITHMETIC, f"+preset={preset}")) == []


@pytest.mark.parametrize("order", [("+preset=paper", "+method=raft"), ("+method=raft", "+preset=paper")])
def test_a_preset_keeps_what_the_method_needs(order):
    options = read_options(compose(ARITHMETIC, *order).algorithm.reinforcepp)
    assert (options.population, options.zero_signal) == ("sample", "pin")


def test_without_a_preset_it_is_openrlhf():
    plain, named = compose(ARITHMETIC), compose(ARITHMETIC, "+preset=openrlhf")
    assert plain == named
    assert read_options(plain.algorithm.reinforcepp) == PRESETS["openrlhf"]


def test_a_single_choice_overrides_the_preset():
    options = read_options(compose("+preset=verl", "algorithm.reinforcepp.population=sample").algorithm.reinforcepp)
    assert (options.population, options.unbiased_variance, options.reward_clip) == ("sample", True, None)
