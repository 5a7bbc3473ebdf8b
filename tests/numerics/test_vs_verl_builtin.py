"""Parity with verl's own REINFORCE++ where the semantics agree, and the intended differences by name."""

import math

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from verl.trainer.ppo.core_algos import (
    compute_gae_advantage_return,
    compute_policy_loss_vanilla,
    compute_reinforce_plus_plus_baseline_outcome_advantage,
    compute_reinforce_plus_plus_outcome_advantage,
)
from verl.workers.config import FSDPActorConfig

from reinforcepp_verl.adapters import (
    reinforcepp_advantage,
    reinforcepp_baseline_advantage,
    reinforcepp_policy_loss,
)
from reinforcepp_verl.advantages import returns_to_go

# verl adds 1e-8 to the variance and to the token count where we take a floor: a relative 1e-8, below fp32 resolution.
# What remains is fp32 summation order.
CLOSE = {"atol": 2e-5, "rtol": 2e-5}
UIDS = np.array(["p", "q", "p", "q", "r", "r"], dtype=object)


def algorithm(gamma=1.0):
    return OmegaConf.create({"gamma": gamma, "reinforcepp": {"unbiased_variance": True}})


@pytest.fixture
def batch():
    """Rewards at every token, holes in the middle, and a last valid token at the end of each row or zeros after it."""
    generator = torch.Generator().manual_seed(5)
    mask = (torch.rand(6, 40, generator=generator) > 0.3).long()
    mask[:, 0] = mask[:3, -1] = 1
    mask[3:, 30:] = 0
    return torch.randn(6, 40, generator=generator) * mask, mask


def builtin(rewards, mask, gamma=1.0):
    return compute_reinforce_plus_plus_outcome_advantage(rewards.clone(), mask, config=algorithm(gamma))


def builtin_baseline(rewards, mask, uids=UIDS):
    return compute_reinforce_plus_plus_baseline_outcome_advantage(rewards.clone(), mask, uids)


def ours(rewards, mask, gamma=1.0):
    return reinforcepp_advantage(rewards, mask, config=algorithm(gamma))


def ours_baseline(rewards, mask, uids=UIDS):
    return reinforcepp_baseline_advantage(rewards, mask, uids, config=algorithm())


@pytest.mark.parametrize("gamma", [1.0, 0.95, 0.0])
def test_plain_estimator_agrees(batch, gamma):
    for actual, expected in zip(ours(*batch, gamma), builtin(*batch, gamma), strict=True):
        torch.testing.assert_close(actual, expected, **CLOSE)


def test_baseline_estimator_agrees(batch):
    torch.testing.assert_close(ours_baseline(*batch)[0], builtin_baseline(*batch)[0], **CLOSE)


@pytest.mark.parametrize("gamma", [1.0, 0.95])
def test_plain_estimator_is_gae_without_critic(batch, gamma):
    rewards, mask = batch
    valid = mask.bool()
    advantages, returns = compute_gae_advantage_return(rewards, torch.zeros_like(rewards), mask, gamma, 1.0)
    torch.testing.assert_close(returns_to_go(rewards, mask, gamma=gamma)[valid], returns[valid], **CLOSE)
    torch.testing.assert_close(ours(rewards, mask, gamma)[0][valid], advantages[valid], **CLOSE)


@pytest.mark.parametrize("mode", ["token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean"])
@pytest.mark.parametrize("weighted", [False, True])
def test_loss_gradient_and_metrics_equal_vanilla(mode, weighted):
    generator = torch.Generator().manual_seed(2)
    old, new, advantages = torch.randn(3, 6, 40, generator=generator)
    mask = torch.rand(6, 40, generator=generator) > 0.3
    weights = torch.rand(6, 40, generator=generator) if weighted else None
    config = FSDPActorConfig(rollout_n=1, ppo_micro_batch_size_per_gpu=1, clip_ratio_high=0.28)
    results = []
    for loss_fn in (compute_policy_loss_vanilla, reinforcepp_policy_loss):
        leaf = new.clone().requires_grad_()
        loss, metrics = loss_fn(old, leaf, advantages, mask, mode, config, weights)
        loss.backward()
        results.append((loss.detach(), leaf.grad, metrics))
    (loss, grad, metrics), (our_loss, our_grad, our_metrics) = results
    torch.testing.assert_close(our_loss, loss, rtol=1e-6, atol=0)
    torch.testing.assert_close(our_grad, grad, rtol=1e-6, atol=1e-9)
    assert our_metrics == pytest.approx(metrics, rel=1e-5)


def test_difference_baseline_returns_keep_the_reward_scale(batch):
    advantages, returns = builtin_baseline(*batch)
    assert torch.equal(advantages, returns)
    scores = batch[0].sum(-1)
    assert ours_baseline(*batch)[1][0, 0].item() == pytest.approx(((scores[0] - scores[2]) / 2).item(), abs=1e-5)


def test_difference_default_is_population_variance():
    rewards, mask = torch.tensor([[1.0], [0.0], [0.0], [0.0]]), torch.ones(4, 1)
    default, _ = reinforcepp_advantage(rewards, mask, config=OmegaConf.create({"gamma": 1.0}))
    torch.testing.assert_close(default[:2, 0], torch.tensor([3**0.5, -(3**-0.5)]))
    torch.testing.assert_close(builtin(rewards, mask)[0][:2, 0], torch.tensor([1.5, -0.5]))


def test_difference_score_on_a_masked_last_position_is_kept():
    rewards = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert not builtin(rewards, mask)[1].any()
    assert ours(rewards, mask)[1].tolist() == [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


def test_difference_rejected_rows_leave_the_group_mean():
    rewards = torch.tensor([[1.0], [0.0], [100.0]])
    mask, uids = torch.tensor([[1], [1], [0]]), np.array(["p"] * 3, dtype=object)
    torch.testing.assert_close(ours_baseline(rewards, mask, uids)[1], torch.tensor([[0.5], [-0.5], [0.0]]))


def test_difference_group_of_one_carries_no_signal():
    rewards, mask = torch.tensor([[1.0], [0.0], [1.0]]), torch.ones(3, 1)
    uids = np.array(["p", "p", "q"], dtype=object)
    assert builtin_baseline(rewards, mask, uids)[0][2].item() == pytest.approx(0.8729, abs=1e-4)
    assert ours_baseline(rewards, mask, uids)[0][2].item() == 0


@pytest.mark.parametrize("valid_tokens", [0, 1])
def test_difference_almost_empty_batches_do_not_crash(valid_tokens):
    rewards, mask = torch.tensor([[1.0, 0.0]]), torch.tensor([[valid_tokens, 0]])
    with pytest.raises(ValueError, match="mask"):
        builtin(rewards, mask)
    assert not ours(rewards, mask)[0].any()


def test_difference_masked_nan_stays_local_and_bool_masks_work():
    rewards, mask = torch.tensor([[1.0, math.nan, 0.0], [0.0, 0.0, 1.0]]), torch.tensor([[1, 0, 1], [1, 1, 1]])
    assert builtin(rewards, mask)[0].isnan().all()
    assert ours(rewards, mask.bool())[0].isfinite().all()


def test_agreement_token_population_recentres_groups_without_signal():
    # Group q is all equal, yet the mean over *tokens* of the centred scores is not 0, as p's wrong answer is longer.
    mask = torch.tensor([[1] * 2 + [0] * 6, [1] * 8, [1] * 4 + [0] * 4, [1] * 4 + [0] * 4])
    rewards = torch.zeros(4, 8)
    rewards[0, 1] = rewards[2, 3] = rewards[3, 3] = 1.0
    uids = np.array(["p", "p", "q", "q"], dtype=object)
    for estimator in (builtin_baseline, ours_baseline):
        assert estimator(rewards, mask, uids)[0][2, 0].item() == pytest.approx(0.4859, abs=1e-4)
