"""The node `guards`: what Hydra, the reader and the check refuse, and how the sampler receives its deadlines."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from reinforcepp_verl.config.guard_options import GuardOptions
from reinforcepp_verl.config.nodes import read_guards
from reinforcepp_verl.config.schema import compose_base
from reinforcepp_verl.preflight import guard_limits, unknown_keys

SAMPLER = "trainer.v1.sampler.sampler_kwargs"


def compose(*overrides):
    return compose_base(*overrides)


def test_the_node_is_read_as_written_and_defaults_apply_without_one():
    assert read_guards(compose("guards.max_kl=0.5", "guards.no_signal_steps=null")) == GuardOptions(
        max_kl=0.5, no_signal_steps=None
    )
    assert read_guards(OmegaConf.create({})) == GuardOptions()


@pytest.mark.parametrize("override", ["guards.max_kl=often", "guards.max_skipped_updates=null", "guards.patience=1.5"])
def test_hydra_refuses_types(override):
    with pytest.raises(Exception, match=override.partition("=")[0]):
        compose(override)


def test_the_sampler_receives_both_deadlines():
    config = compose("guards.hang_deadline_s=33", "guards.step_deadline_s=null")
    assert OmegaConf.select(config, f"{SAMPLER}.hang_deadline_s") == 33
    assert OmegaConf.select(config, f"{SAMPLER}.step_deadline_s") is None


@pytest.mark.parametrize(
    ("overrides", "start", "fix"),
    [
        ("guards=null", "guards is null", "remove this setting"),
        ("guards.max_kl=-1", "guards.max_kl is -1.0", "above 0"),
        ("guards.patience=0", "guards.patience is 0", "1 or more"),
        (
            "guards.max_kl=1 algorithm.use_kl_in_reward=false actor_rollout_ref.actor.use_kl_loss=false",
            "guards.max_kl is 1",
            "algorithm.use_kl_in_reward=true",
        ),
        (
            "guards.min_entropy=0.1 algorithm.rollout_correction.bypass_mode=true",
            "guards.min_entropy is 0.1",
            "guards.min_entropy=null",
        ),
    ],
)
def test_the_check_refuses_invalid_values_of_the_right_type(overrides, start, fix):
    [problem] = guard_limits.check(compose(*overrides.split()))
    assert "\n" not in problem
    assert problem.startswith(start)
    assert fix in problem


@pytest.mark.parametrize(
    "overrides",
    [
        "",
        "guards.max_kl=1 guards.max_update_kl=0.1 guards.min_entropy=0.1 guards.max_entropy=5",
        "guards.max_logprob_gap=null guards.no_signal_steps=null guards.step_deadline_s=null",
    ],
)
def test_the_check_accepts(overrides):
    config = compose(*overrides.split())
    assert guard_limits.check(config) == []
    assert not [problem for problem in unknown_keys.check(config) if "guards" in problem]
