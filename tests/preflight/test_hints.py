"""Hints that name what was meant."""

from __future__ import annotations

import inspect

import pytest
import ray

from reinforcepp_verl.common.wording import nearest
from reinforcepp_verl.config.schema import known_keys
from reinforcepp_verl.preflight import composition, examine
from reinforcepp_verl.preflight.unknown_keys import needs_plus, unknown_key
from reinforcepp_verl.slurm.time_limit import check_time

RECIPE = "+recipe=math_rlvr/arithmetic"
ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"


@pytest.fixture(autouse=True)
def _in_arithmetic(arithmetic, monkeypatch):
    monkeypatch.chdir(arithmetic)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("reinforce++", "reinforcepp"),
        ("REINFORCE++", "reinforcepp"),
        ("reinforce++_baseline", "reinforcepp_baseline"),
        ("reinforce++-baseline", "reinforcepp_baseline"),
        ("Reinforce-Reward-To-Go", "reinforce_reward_to_go"),
        ("reinforcep", "reinforcepp"),
    ],
)
def test_an_estimator_in_another_spelling(name, meant):
    assert nearest(name, ["reinforce", "reinforcepp", "reinforcepp_baseline", "reinforce_reward_to_go"]) == meant


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("lr", f"{ACTOR}.optim.lr"),
        ("n", f"{ROLLOUT}.n"),
        ("temperature", f"{ROLLOUT}.temperature"),
        ("top_p", f"{ROLLOUT}.top_p"),
        ("weight_decay", f"{ACTOR}.optim.weight_decay"),
        ("kl_coef", "algorithm.kl_ctrl.kl_coef"),
        ("clip_ratio_high", f"{ACTOR}.clip_ratio_high"),
        ("train_batch_size", "data.train_batch_size"),
        ("total_epochs", "trainer.total_epochs"),
        ("adv_estimator", "algorithm.adv_estimator"),
        ("ppo_mini_batch_size", f"{ACTOR}.ppo_mini_batch_size"),
        ("gamma", "algorithm.gamma"),
        ("optim.lr", f"{ACTOR}.optim.lr"),
        ("rollout.n", f"{ROLLOUT}.n"),
        ("actor.optim.lr", f"{ACTOR}.optim.lr"),
    ],
)
def test_a_bare_key_is_matched_by_its_end(reinforcepp, key, meant):
    assert unknown_key(key, known_keys()) == f"{key}: unknown key; did you mean {meant}?"
    if key in ("lr", "n"):
        for argument in (f"{key}=1", f"+{key}=1"):
            done = reinforcepp("check", RECIPE, argument)
            assert done.exit_code == 2 and f"{key}: unknown key; did you mean {meant}?" in done.stderr


@pytest.mark.parametrize(
    "key",
    [
        f"{ROLLOUT}.engine_kwargs.vllm.max_logprobs",
        f"{ACTOR}.ppo_infer_micro_batch_size_per_gpu",
        "actor_rollout_ref.model.override_config.rope_theta",
        "ray_kwargs.ray_init._temp_dir",
        "ray_kwargs.ray_init.object_store_memory",
    ],
)
def test_a_missing_plus_is_named(reinforcepp, key):
    assert needs_plus(key)
    done = reinforcepp("check", RECIPE, f"{key}=1")
    assert done.exit_code == 2
    assert (
        f"error: {key}: verl's configuration does not define this key" in done.stderr and f"+{key}=VALUE" in done.stderr
    )


def test_other_keys_need_no_plus():
    assert not any(map(needs_plus, ("lr", "algorithm.gama", "trainer.nope.nope", "ray_kwargs.ray_init.num_cpu")))
    assert composition.unknown_key("ray_kwargs.ray_init.num_cpu", known_keys()).endswith("num_cpus?")


@pytest.mark.parametrize(
    "setting", ["_temp_dir: /disk", "_node_ip_address: 127.0.0.1", "_system_config: {a: 1}", "namespace: mine"]
)
def test_all_arguments_of_ray_init_are_accepted(compose, setting):
    name, _, given = setting.partition(": ")
    assert examine(compose(RECIPE, f"ray_kwargs.ray_init.{name}={given}")).errors == []


def test_ray_still_takes_arguments_from_its_kwargs():
    assert "_temp_dir" in inspect.getsource(ray.init)
    assert "_temp_dir" not in inspect.signature(ray.init).parameters


def test_missing_micro_batches_offer_dynamic_ones(compose):
    found = examine(compose(RECIPE, f"{ACTOR}.use_dynamic_bsz=false")).errors
    assert found and all(
        f"or {ACTOR}.use_dynamic_bsz=true, which fills micro-batches by tokens" in one for one in found
    )
    found = examine(compose(RECIPE, "+method=ppo", "critic.use_dynamic_bsz=false")).errors
    assert any("or critic.use_dynamic_bsz=true" in one for one in found), found


def test_eval_names_its_option_for_settings(reinforcepp):
    done = reinforcepp("eval", "runs/latest", f"{ROLLOUT}.val_kwargs.n=4")
    assert done.exit_code == 2
    assert f"to change a setting of a checkpoint's evaluation, write --set {ROLLOUT}.val_kwargs.n=4" in done.stderr


@pytest.mark.parametrize("limit", ["12:00:00", "1-12:00:00", "0:30:00", "2-0", "1-12:30", "UNLIMITED", "100:00:00"])
def test_time_limits_of_slurm(limit):
    check_time(limit)


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        ("12", "Slurm reads this as 12 minutes; write --time 0:12:00 if that is meant, or --time 12:00:00 for hours"),
        ("12:30", "Slurm reads this as 12 minutes; .* or --time 12:30:00 for hours"),
        ("12h", "Slurm has no units; write --time 12:00:00"),
        ("2 hours", "Slurm has no units; write --time 2:00:00"),
        ("3d", "Slurm has no units; write --time 3-00:00:00"),
        ("noon", "Slurm cannot read it; write --time HOURS:MINUTES:SECONDS"),
    ],
)
def test_a_time_limit_that_means_something_else(limit, says):
    with pytest.raises(ValueError, match=rf"^--time {limit}: {says}"):
        check_time(limit)


def test_slurm_questions_a_time_limit_before_it_composes(reinforcepp):
    done = reinforcepp("slurm", "submit", RECIPE, "--time", "12h", "--dry-run")
    assert done.exit_code == 2 and "error: --time 12h: Slurm has no units" in done.stderr
