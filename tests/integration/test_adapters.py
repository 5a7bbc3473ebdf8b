"""The verl-facing signatures: config handling, aggregation and metrics, against verl's real config classes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from verl.workers.config import FSDPActorConfig

from reinforcepp_verl.algorithm import estimators
from reinforcepp_verl.algorithm.batch import RewardBatch
from reinforcepp_verl.algorithm.moments import Memory
from reinforcepp_verl.algorithm.options import OPENRLHF
from reinforcepp_verl.integration.adapters import ESTIMATORS, reinforcepp_policy_loss
from reinforcepp_verl.integration.batch_context import Step, active, current

NAN = float("nan")
REWARDS = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.5, 0.0], [0.0, 0.0, 2.0], [1.0, 0.0, 0.0]])
MASK = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 1], [1, 0, 0]])
UIDS = np.array(["b-7", "a-3", "b-7", "a-3"], dtype=object)
OLD = torch.tensor([[0.5, 0.5, 0.5, 0.1]]).log()
NEW = torch.tensor([[0.7, 0.3, 0.55, 0.9]]).log()
ADVANTAGES = torch.tensor([[1.0, 1.0, -1.0, -1.0]])
ALL_VALID = torch.ones(1, 4, dtype=torch.bool)


def algorithm(**keys):
    return OmegaConf.create({"gamma": 1.0, **keys})


def actor(**keys):
    ours = {"clip_ratio_low": None, "clip_ratio_high": None, "clip_ratio_c": None}  # as our base YAML sets them
    return FSDPActorConfig(rollout_n=1, ppo_micro_batch_size_per_gpu=1, **{**ours, **keys})


def policy_loss(config, log_prob=NEW, old_log_prob=OLD, advantages=ADVANTAGES, mask=ALL_VALID, **options):
    return reinforcepp_policy_loss(
        old_log_prob=old_log_prob,
        log_prob=log_prob,
        advantages=advantages,
        response_mask=mask,
        config=config,
        **options,
    )


def pure(estimator, group_index=None, options=OPENRLHF, **keys):
    estimate = estimator(RewardBatch(REWARDS, MASK, group_index=group_index), options, **keys)
    return estimate.advantages, estimate.returns


def same(actual, expected):
    return all(torch.equal(x, y) for x, y in zip(actual, expected, strict=True))


@pytest.mark.parametrize("node", [{}, {"reinforcepp": None}, {"reinforcepp": {}}])
def test_advantage_without_our_node_uses_the_defaults(node):
    config = algorithm(**node)
    OmegaConf.set_struct(config, True)
    actual = ESTIMATORS["reinforcepp"](token_level_rewards=REWARDS, response_mask=MASK, config=config, index=UIDS)
    assert same(actual, pure(estimators.reinforcepp))


def test_options_and_gamma_reach_the_formulas():
    node = {"unbiased_variance": True, "variance_floor": 0.3}
    options = replace(OPENRLHF, **node)
    config = algorithm(gamma=0.5, reinforcepp=node)
    actual = ESTIMATORS["reinforcepp"](token_level_rewards=REWARDS, response_mask=MASK, config=config)
    assert same(actual, pure(estimators.reinforcepp, options=options, gamma=0.5))
    config.gamma = 1.0
    actual = ESTIMATORS["reinforcepp_baseline"](
        token_level_rewards=REWARDS, response_mask=MASK, index=UIDS, config=config, future_verl_argument=None
    )
    assert same(actual, pure(estimators.reinforcepp_baseline, torch.tensor([1, 0, 1, 0]), options))


@pytest.mark.parametrize("name", ["reinforcepp_baseline", "reinforce", "raft"])
def test_whole_answers_refuse_a_discount(name):
    with pytest.raises(ValueError, match=r"algorithm\.gamma is 0\.99"):
        ESTIMATORS[name](REWARDS, MASK, index=UIDS, config=algorithm(gamma=0.99))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_misspelt_option_stops_the_run(name):
    with pytest.raises(ValueError, match=r"algorithm\.reinforcepp\.varaince_floor"):
        ESTIMATORS[name](REWARDS, MASK, index=UIDS, config=algorithm(reinforcepp={"varaince_floor": 1e-8}))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_kl_in_the_reward_needs_a_trainer_that_knows_the_scores(name):
    with pytest.raises(ValueError, match="set trainer.v1.trainer_mode to reinforcepp_sync"):
        ESTIMATORS[name](REWARDS, MASK, index=UIDS, config=algorithm(use_kl_in_reward=True))


@pytest.mark.parametrize("name", ["reinforcepp", "reinforcepp_baseline", "reinforce", "reinforce_reward_to_go", "raft"])
def test_our_trainer_hands_over_scores_sessions_and_memory(name):
    penalty = torch.tensor([[0.5, 0.0, 0.25], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.25, 0.0, 0.0]])
    sessions = torch.tensor([0, 1, 2, 1])
    step = Step(scores=REWARDS, session_index=sessions, memory=Memory())
    node = {"statistics": "running", "reward_norm": "running", "baseline": "moving_average"}
    config = algorithm(use_kl_in_reward=True, reinforcepp=node)
    with active(step):
        actual = ESTIMATORS[name](REWARDS - penalty, MASK, index=UIDS, config=config)
    memory = Memory()
    batch = RewardBatch(REWARDS, MASK, penalty, torch.tensor([1, 0, 1, 0]), sessions)
    expected = getattr(estimators, name)(batch, replace(OPENRLHF, **node), memory=memory)
    torch.testing.assert_close(actual, (expected.advantages, expected.returns))
    assert step.memory == memory and memory != Memory()
    assert step.metrics == pytest.approx(expected.metrics)
    assert current() is None


def test_clip_bounds_fall_back_to_clip_ratio():
    loss, metrics = policy_loss(actor(clip_ratio=0.1))
    assert loss.item() == pytest.approx((-1.1 - 0.6 + 1.1 + 9.0) / 4)
    assert metrics == {
        "actor/pg_clipfrac": 0.25,
        "actor/ppo_kl": pytest.approx((OLD - NEW).mean().item()),
        "actor/pg_clipfrac_lower": 0.0,
        "actor/clip_fraction_low": 0.0,
        "actor/clip_fraction_high": 0.25,
        "actor/ratio_max": pytest.approx(9.0),
        "actor/zero_weight_tokens": 0.0,
    }
    loss, _ = policy_loss(actor(clip_ratio=0.1, clip_ratio_low=0.0, clip_ratio_high=0.3))
    assert loss.item() == pytest.approx((-1.3 - 0.6 + 1.1 + 9.0) / 4)
    loss, _ = policy_loss(actor(clip_ratio=0.1, clip_ratio_low=0.0), advantages=-torch.ones(1, 4))
    assert loss.item() == pytest.approx((1.4 + 1.0 + 1.1 + 9.0) / 4)  # 0 is a bound, not a missing one


def test_clip_fractions_say_which_bound_was_hit():
    ratio = torch.tensor([[1.5, 0.5, 1.5, 0.5]])
    advantages = torch.tensor([[1.0, 1.0, -1.0, -1.0]])
    _, metrics = policy_loss(actor(clip_ratio=0.2), ratio.log(), torch.zeros(1, 4), advantages)
    assert (metrics["actor/clip_fraction_high"], metrics["actor/clip_fraction_low"]) == (0.25, 0.25)
    assert metrics["actor/ratio_max"] == pytest.approx(1.5)


def test_dual_clip_is_off_when_null():
    assert policy_loss(actor())[0].item() == pytest.approx(2.075)
    loss, metrics = policy_loss(actor(clip_ratio_c=3.0))
    assert loss.item() == pytest.approx(0.575)
    assert metrics["actor/pg_clipfrac"] == metrics["actor/pg_clipfrac_lower"] == 0.25


@pytest.mark.parametrize("bound", [1.0, 0.5, -3.0, NAN])
def test_dual_clip_must_exceed_one(bound):
    with pytest.raises(ValueError, match=r"actor_rollout_ref\.actor\.clip_ratio_c"):
        policy_loss(actor(clip_ratio_c=bound))


def test_rollout_weights_scale_each_token_after_clipping():
    weights = torch.tensor([[2.0, 1.0, 0.5, 0.0]])
    loss, metrics = policy_loss(actor(), rollout_is_weights=weights)
    assert metrics["actor/zero_weight_tokens"] == 0.25
    assert loss.item() == pytest.approx((-2.4 - 0.6 + 0.55) / 4)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("token-mean", 22 / 6),
        ("token-sum", 22.0),
        ("seq-mean-token-sum", 22 / 3),
        ("seq-mean-token-mean", (1.5 + 4 + 7) / 3),
        ("seq-mean-token-sum-norm", 22 / 9),
    ],
)
def test_aggregation_modes(mode, expected):
    # OpenRLHF's example; on policy the loss of a token is minus its advantage.
    token_loss = torch.tensor([[1.0, 2.0, 0.0], [3.0, 4.0, 5.0], [7.0, 0.0, 0.0]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 0]])
    zeros = torch.zeros(3, 3)
    loss, _ = policy_loss(actor(), zeros, zeros, -token_loss, mask, loss_agg_mode=mode)
    assert loss.item() == pytest.approx(expected)


MODES = ["token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bad", [NAN, float("inf")])
def test_non_finite_masked_values_reach_neither_loss_nor_gradient(mode, bad):
    mask = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0]])
    log_prob, old, advantages, weights = (
        torch.where(mask.bool(), x.expand(2, 4), bad) for x in (NEW, OLD, ADVANTAGES, torch.ones(1, 4))
    )
    log_prob.requires_grad_()
    loss, metrics = policy_loss(
        actor(), log_prob, old, advantages, mask, rollout_is_weights=weights, loss_agg_mode=mode
    )
    loss.backward()
    assert loss.isfinite() and log_prob.grad.isfinite().all()
    assert not log_prob.grad[~mask.bool()].any() and log_prob.grad[0, 2:].all()
    assert metrics["actor/pg_clipfrac"] == pytest.approx(1 / 3)
    assert metrics["actor/ppo_kl"] == pytest.approx((OLD - NEW)[mask[:1].bool()].mean().item())


@pytest.mark.parametrize("mode", MODES)
def test_micro_batch_without_valid_token_has_zero_loss_and_gradient(mode):
    log_prob = NEW.clone().requires_grad_()
    loss, metrics = policy_loss(actor(), log_prob, mask=torch.zeros(1, 4), loss_agg_mode=mode)
    loss.backward()
    assert loss.item() == 0.0 and not log_prob.grad.any()
    assert set(metrics.values()) == {0.0}
