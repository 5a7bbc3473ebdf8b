"""The verl-facing signatures: config handling, aggregation and metrics, against verl's real config classes."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from verl.workers.config import FSDPActorConfig

from reinforcepp_verl import advantages as estimators
from reinforcepp_verl.adapters import (
    reinforcepp_advantage,
    reinforcepp_baseline_advantage,
    reinforcepp_policy_loss,
)

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


@pytest.mark.parametrize("node", [{}, {"reinforcepp": None}, {"reinforcepp": {}}])
def test_advantage_without_our_node_uses_the_defaults(node):
    config = algorithm(**node)
    OmegaConf.set_struct(config, True)
    expected = estimators.reinforcepp(REWARDS, MASK, gamma=1.0, variance_floor=1e-8, unbiased_variance=False)
    actual = reinforcepp_advantage(token_level_rewards=REWARDS, response_mask=MASK, config=config, index=UIDS)
    assert all(torch.equal(x, y) for x, y in zip(actual, expected, strict=True))


def test_options_and_gamma_reach_the_formulas():
    config = algorithm(gamma=0.5, reinforcepp={"unbiased_variance": True, "variance_floor": 0.3})
    expected = estimators.reinforcepp(REWARDS, MASK, gamma=0.5, variance_floor=0.3, unbiased_variance=True)
    actual = reinforcepp_advantage(token_level_rewards=REWARDS, response_mask=MASK, config=config)
    assert all(torch.equal(x, y) for x, y in zip(actual, expected, strict=True))
    config.gamma = 1.0
    options = {"group_index": torch.tensor([1, 0, 1, 0]), "variance_floor": 0.3, "unbiased_variance": True}
    expected = estimators.reinforcepp_baseline(REWARDS, MASK, **options)
    actual = reinforcepp_baseline_advantage(
        token_level_rewards=REWARDS, response_mask=MASK, index=UIDS, config=config, future_verl_argument=None
    )
    assert all(torch.equal(x, y) for x, y in zip(actual, expected, strict=True))


def test_baseline_groups_by_uid():
    _, returns = reinforcepp_baseline_advantage(REWARDS, MASK, UIDS, algorithm())
    assert returns[:, 0].tolist() == [-0.5, -0.25, 0.5, 0.25]


def test_baseline_refuses_a_discount():
    with pytest.raises(ValueError, match=r"algorithm\.gamma is 0\.99"):
        reinforcepp_baseline_advantage(REWARDS, MASK, UIDS, algorithm(gamma=0.99))


@pytest.mark.parametrize("estimate", [reinforcepp_advantage, reinforcepp_baseline_advantage])
def test_a_misspelt_option_stops_the_run(estimate):
    with pytest.raises(ValueError, match=r"algorithm\.reinforcepp\.varaince_floor"):
        estimate(REWARDS, MASK, index=UIDS, config=algorithm(reinforcepp={"varaince_floor": 1e-8}))


def test_clip_bounds_fall_back_to_clip_ratio():
    loss, metrics = policy_loss(actor(clip_ratio=0.1))
    assert loss.item() == pytest.approx((-1.1 - 0.6 + 1.1 + 9.0) / 4)
    assert metrics == {
        "actor/pg_clipfrac": 0.25,
        "actor/ppo_kl": pytest.approx((OLD - NEW).mean().item()),
        "actor/pg_clipfrac_lower": 0.0,
    }
    loss, _ = policy_loss(actor(clip_ratio=0.1, clip_ratio_low=0.0, clip_ratio_high=0.3))
    assert loss.item() == pytest.approx((-1.3 - 0.6 + 1.1 + 9.0) / 4)
    loss, _ = policy_loss(actor(clip_ratio=0.1, clip_ratio_low=0.0), advantages=-torch.ones(1, 4))
    assert loss.item() == pytest.approx((1.4 + 1.0 + 1.1 + 9.0) / 4)  # 0 is a bound, not a missing one


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
    loss, _ = policy_loss(actor(), rollout_is_weights=weights)
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
