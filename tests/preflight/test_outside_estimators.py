"""An estimator and a policy loss of another package are judged like ours."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from reinforcepp_verl.algorithm.registry import (
    ESTIMATORS,
    LOSSES,
    OPTION_NAMES,
    RegisteredEstimator,
    RegisteredLoss,
    Traits,
)
from reinforcepp_verl.preflight import algorithm_settings, guard_limits, registered_names, reward_function, unknown_keys

ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
POLICY_LOSS = f"{ACTOR}.policy_loss"
ARITHMETIC, MINE = "+recipe=math_rlvr/arithmetic", "algorithm.adv_estimator=mine"
EAGER = Traits(options_read=OPTION_NAMES)
PICKY = Traits(needs_group=True, options_read=frozenset({"population"}))


def never_called(batch, options):
    raise NotImplementedError


@dataclass
class Options:
    width: float = 1.0
    kind: str = "round"


@pytest.fixture
def register(monkeypatch):
    """Return a function that enters an estimator `mine` and a loss `mine` for the time of one test."""

    def enter(traits: Traits) -> None:
        from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY

        monkeypatch.setitem(ESTIMATORS, "mine", RegisteredEstimator("mine", never_called, traits))
        monkeypatch.setitem(LOSSES, "mine", RegisteredLoss("mine", never_called, Options))
        for registry in (ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY):
            monkeypatch.setitem(registry, "mine", never_called)

    return enter


def problems(config) -> list:
    checks = (unknown_keys, registered_names, algorithm_settings, guard_limits, reward_function)
    return [problem for check in checks for problem in check.check(config)]


@pytest.mark.parametrize(
    "overrides",
    [
        ["guards.max_kl=0.5"],
        ["reward_errors.score=nan", "algorithm.reinforcepp.nonfinite=drop"],
        ["algorithm.reinforcepp.population=sample", "algorithm.reinforcepp.zero_signal=pin", f"{ROLLOUT}.n=2"],
        ["algorithm.gamma=0.9", f"{ROLLOUT}.n=1"],
        [f"{POLICY_LOSS}.loss_mode=mine", f"{POLICY_LOSS}.options.width=2", f"{POLICY_LOSS}.options.kind=flat"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_what_is_right_with_ours_is_right_with_others(compose, register, overrides):
    register(Traits(uses_gamma=True, options_read=OPTION_NAMES))
    assert problems(compose(ARITHMETIC, MINE, *overrides)) == []


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ([f"{ROLLOUT}.n=1"], f"{ROLLOUT}.n is 1: mine compares "),
        (["algorithm.gamma=0.9"], "algorithm.gamma is 0.9: mine scores whole answers"),
        (["algorithm.reinforcepp.baseline=moving_average"], "algorithm.reinforcepp.baseline is moving_average: mine "),
        (["algorithm.reinforcepp.zero_signal=pin"], "algorithm.reinforcepp.zero_signal is pin: mine does not read it"),
        (["algorithm.reinforcepp.reward_scale=2"], "algorithm.reinforcepp.reward_scale is 2.0: mine does not read it"),
        (
            ["guards.max_kl=0.5", "algorithm.use_kl_in_reward=false"],
            "guards.max_kl is 0.5: the metric that it limits needs a reference model",
        ),
        (["reward_errors.score=nan"], "reward_errors.score is nan: that needs algorithm.reinforcepp.nonfinite=drop; "),
        (
            ["algorithm.use_kl_in_reward=false", f"{ACTOR}.use_kl_loss=true", f"{ACTOR}.kl_loss_type=low_var_kl"],
            f"{ACTOR}.kl_loss_type is low_var_kl",
        ),
    ],
    ids=lambda case: case[0] if isinstance(case, list) else "",
)
def test_what_is_wrong_with_ours_is_wrong_with_others(compose, register, overrides, says):
    register(PICKY)
    [problem] = problems(compose(ARITHMETIC, MINE, *overrides))
    assert getattr(problem, "message", problem).startswith(says)


@pytest.mark.parametrize(
    ("loss", "option", "says"),
    [
        ("mine", "widht=2", f"{POLICY_LOSS}.options.widht: unknown key (did you mean width?); valid keys: width, kind"),
        ("mine", "width=wide", f"{POLICY_LOSS}.options.width: "),
        ("reinforcepp", "width=2", f"{POLICY_LOSS}.options.width: unknown key; valid keys: none"),
        ("vanilla", "width=2", f"{POLICY_LOSS}.options is set, but {POLICY_LOSS}.loss_mode is vanilla"),
        ("mien", "width=2", f"{POLICY_LOSS}.loss_mode is mien: no such name (did you mean mine?); known names: "),
    ],
)
def test_options_of_losses(compose, register, loss, option, says):
    register(Traits())
    config = compose(ARITHMETIC, f"{POLICY_LOSS}.loss_mode={loss}", f"{POLICY_LOSS}.options.{option}")
    [problem] = registered_names.check(config)
    assert getattr(problem, "message", problem).startswith(says)


@pytest.mark.parametrize(
    ("traits", "overrides", "needed"),
    [
        (Traits(needs_scores=True), [], "mine with algorithm.use_kl_in_reward=true"),
        (EAGER, ["algorithm.reinforcepp.reward_norm=batch"], "algorithm.reinforcepp.reward_norm with algorithm.use"),
        (EAGER, ["algorithm.reinforcepp.statistics=running"], "the running statistics of algorithm.reinforcepp"),
        (Traits(keeps_state=True), [], "the state of mine"),
        (Traits(needs_scores=True), ["algorithm.use_kl_in_reward=false"], None),
        (Traits(), [], None),
    ],
)
def test_verls_own_trainer_is_refused_only_where_the_estimator_would_fail(compose, register, traits, overrides, needed):
    register(traits)
    found = problems(compose(ARITHMETIC, MINE, "trainer.v1.trainer_mode=sync", *overrides))
    errors = [problem for problem in found if isinstance(problem, str)]
    if needed is None:
        assert errors == [] and len(found) == 1
    else:
        [error] = errors
        assert f"cannot provide what {needed}" in error


def test_the_node_of_the_loss_knows_verls_keys_and_no_others(compose):
    [problem] = unknown_keys.check(compose(ARITHMETIC, f"{POLICY_LOSS}.clip_cov_rtaio=1"))
    assert problem == f"{POLICY_LOSS}.clip_cov_rtaio: unknown key; did you mean {POLICY_LOSS}.clip_cov_ratio?"


@pytest.mark.parametrize(
    ("modules", "says"),
    [
        # It knows them before it checks the algorithm.
        ("my_estimator,my_loss", f"{ROLLOUT}.n is 1: group_returns compares "),
        pytest.param(
            "my_estimator,no_module",
            "VERL_USE_EXTERNAL_MODULES=my_estimator,no_module: the import fails with Module",
            marks=pytest.mark.long,
        ),
    ],
)
def test_the_command_imports_the_users_modules(arithmetic, modules, says):
    examples = Path(__file__).parents[2] / "docs" / "examples"
    overrides = ["algorithm.adv_estimator=group_returns", f"{ROLLOUT}.n=1"]
    overrides += [f"{POLICY_LOSS}.loss_mode=spo", f"{POLICY_LOSS}.options.epsilon=0.3"]
    done = subprocess.run(
        [Path(sys.executable).with_name("reinforcepp"), "check", ARITHMETIC, *overrides],
        cwd=arithmetic,
        env=os.environ | {"PYTHONPATH": str(examples), "VERL_USE_EXTERNAL_MODULES": modules},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: {says}"), done.stderr
