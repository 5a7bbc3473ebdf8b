"""Every recipe, method and cluster file composes, and verl's own typed configs accept the result."""

from __future__ import annotations

import pytest
from omegaconf import DictConfig, OmegaConf
from verl.utils.config import omega_conf_to_dataclass

from reinforcepp_verl.algorithm.registry import ESTIMATORS, LOSSES
from reinforcepp_verl.config import search_path
from reinforcepp_verl.config.nodes import read_options

CONFIGS = search_path.config_dir()
RECIPES = search_path.recipe_names()
METHODS = sorted(path.stem for path in (CONFIGS / "method").glob("*.yaml"))
NAMES = {
    "ppo": "gae",
    "remax": "greedy_baseline",
    "flash_reinforce": "reinforce",
    "rloo": "leave_one_out",
    "rloo_verl": "rloo",
}
"""Estimators of the methods that have another name."""
CLUSTERS = sorted(path.stem for path in (CONFIGS / "cluster").glob("*.yaml"))
ARITHMETIC = "+recipe=math_rlvr/arithmetic"
TYPED_NODES = (
    "actor_rollout_ref.actor",
    "actor_rollout_ref.ref.fsdp_config",
    "actor_rollout_ref.rollout",
    "actor_rollout_ref.rollout.checkpoint_engine",
    "critic.fsdp",
    "critic.optim",
)
LEGACY_REWARD_KEYS = ("custom_reward_function.path", "reward_model.reward_manager", "reward_model.enable")


@pytest.fixture(autouse=True)
def in_a_folder_with_the_model(arithmetic, monkeypatch) -> None:
    """verl's typed model config opens the model's folder."""
    monkeypatch.chdir(arithmetic)


def assert_verl_accepts(config: DictConfig) -> None:
    OmegaConf.to_container(config, resolve=True)
    for key in TYPED_NODES:
        omega_conf_to_dataclass(OmegaConf.select(config, key))
    if config.critic.enable:
        assert config.critic.model.path == config.actor_rollout_ref.model.path
        omega_conf_to_dataclass(config.critic)
    read_options(config.algorithm.reinforcepp)
    for key in LEGACY_REWARD_KEYS:
        assert OmegaConf.select(config, key) is None, f"main_ppo ignores {key}"


def test_there_is_something_to_test():
    assert "math_rlvr/arithmetic" in RECIPES
    assert {NAMES.get(name, name) for name in METHODS} == {*ESTIMATORS, "grpo", "rloo", "gae"}
    assert {"auto", "cpu", "local"} <= set(CLUSTERS)


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_composes_into_what_verl_accepts(compose, recipe):
    config = compose(f"+recipe={recipe}")
    assert "recipe" not in config, "Hydra took +recipe= for a plain key"
    assert_verl_accepts(config)


@pytest.mark.parametrize("method", METHODS)
def test_method_composes_with_the_arithmetic_recipe(compose, method):
    config = compose(ARITHMETIC, f"+method={method}")
    assert_verl_accepts(config)
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    ours = config.algorithm.adv_estimator in ESTIMATORS
    assert config.algorithm.adv_estimator == NAMES.get(method, method)
    whole_answers = method in ("reinforce", "rloo")
    assert whole_answers == (actor.policy_loss.loss_mode == "reinforcepp_answer")
    assert actor.policy_loss.loss_mode in (LOSSES if ours else ["vanilla"])
    if ours:
        assert (actor.clip_ratio_low, actor.clip_ratio_high) == (None, None)
        assert actor.clip_ratio_c is None
    else:
        assert actor.clip_ratio_c == 3.0
    assert not (config.algorithm.use_kl_in_reward and actor.use_kl_loss), "the KL would count twice"


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_cluster_composes_with_the_arithmetic_recipe(compose, cluster):
    assert_verl_accepts(compose(ARITHMETIC, f"cluster={cluster}"))


def test_cpu_is_really_true_fp32(compose):
    config = compose(ARITHMETIC)
    for node in (
        config.actor_rollout_ref.actor.fsdp_config,
        config.actor_rollout_ref.ref.fsdp_config,
        config.critic.fsdp,
    ):
        precision = omega_conf_to_dataclass(node).mixed_precision
        assert set(precision.values()) == {"fp32"}
        assert (node.model_dtype, node.dtype) == ("fp32", "float32")
    assert config.actor_rollout_ref.rollout.dtype == "float32"


def test_a_single_seed_reaches_every_place(compose):
    config = compose(ARITHMETIC, "seed=7")
    seeds = ("data.seed", "actor_rollout_ref.actor.data_loader_seed", "actor_rollout_ref.actor.fsdp_config.seed")
    assert {OmegaConf.select(config, key) for key in (*seeds, "actor_rollout_ref.rollout.seed")} == {7}
