"""Parity with verl's own functions where the semantics agree; test_verl_defects.py shows where they do not.

verl adds 1e-8 to the variance where we use a floor, and 1e-8 to the token count: both are negligible in these batches.
What remains is the order of summation in fp32.
"""

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

from reinforcepp_verl.algorithm.moments import Memory
from reinforcepp_verl.integration import batch_context
from reinforcepp_verl.integration.estimator_adapter import estimator_for_verl
from reinforcepp_verl.integration.loss_adapter import loss_for_verl

reinforcepp_policy_loss = loss_for_verl("reinforcepp")

CLOSE = {"atol": 2e-5, "rtol": 2e-5}
UIDS = np.array(["p", "q", "p", "q", "r", "r"], dtype=object)
MODES = ["token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"]


@pytest.fixture
def batch():
    """Rewards at every token, gaps in the middle, a last valid token at the end of three rows and padding in three."""
    generator = torch.Generator().manual_seed(5)
    mask = (torch.rand(6, 40, generator=generator) > 0.3).long()
    mask[:, 0] = mask[:3, -1] = 1
    mask[3:, 30:] = 0
    return torch.randn(6, 40, generator=generator) * mask, mask


@pytest.fixture
def outcomes(batch):
    """The same masks with one score per row, on its last valid token."""
    mask = batch[1]
    last = mask.shape[1] - 1 - mask.flip(-1).argmax(-1, keepdim=True)
    scores = torch.randn(6, 1, generator=torch.Generator().manual_seed(6))
    return torch.zeros(mask.shape).scatter(-1, last, scores), mask


def algorithm(gamma=1.0, **keys):
    return OmegaConf.create({"gamma": gamma, "reinforcepp": {"unbiased_variance": True, "reward_clip": None}, **keys})


def builtin(rewards, mask, gamma=1.0):
    return compute_reinforce_plus_plus_outcome_advantage(rewards.clone(), mask, config=algorithm(gamma))


def ours(rewards, mask, gamma=1.0):
    return estimator_for_verl("reinforcepp")(rewards, mask, algorithm(gamma), UIDS[: len(rewards)])


@pytest.mark.parametrize("gamma", [1.0, 0.95, 0.0])
def test_plain_estimator_agrees(batch, gamma):
    for actual, expected in zip(ours(*batch, gamma), builtin(*batch, gamma), strict=True):
        torch.testing.assert_close(actual, expected, **CLOSE)


@pytest.mark.parametrize("gamma", [1.0, 0.95, 0.0])
def test_plain_estimator_agrees_with_the_kl_penalty_in_the_reward(outcomes, gamma):
    scores, mask = outcomes
    rewards = scores - 0.1 * torch.randn(scores.shape, generator=torch.Generator().manual_seed(8)) * mask
    with batch_context.use_context(batch_context.BatchContext(scores, torch.arange(6), Memory())):
        actual = estimator_for_verl("reinforcepp")(rewards, mask, algorithm(gamma, use_kl_in_reward=True), UIDS)
    for x, y in zip(actual, builtin(rewards, mask, gamma), strict=True):
        torch.testing.assert_close(x, y, **CLOSE)


def test_baseline_estimator_agrees_on_outcome_rewards(outcomes):
    expected, _ = compute_reinforce_plus_plus_baseline_outcome_advantage(outcomes[0].clone(), outcomes[1], UIDS)
    actual, _ = estimator_for_verl("reinforcepp_baseline")(*outcomes, algorithm(), UIDS)
    torch.testing.assert_close(actual, expected, **CLOSE)


@pytest.mark.parametrize("gamma", [1.0, 0.95])
def test_plain_estimator_is_gae_without_critic(batch, gamma):
    rewards, mask = batch
    valid = mask.bool()
    advantages, returns = compute_gae_advantage_return(rewards, torch.zeros_like(rewards), mask, gamma, 1.0)
    torch.testing.assert_close(ours(rewards, mask, gamma)[1][valid], returns[valid], **CLOSE)
    torch.testing.assert_close(ours(rewards, mask, gamma)[0][valid], advantages[valid], **CLOSE)


@pytest.mark.parametrize(
    ("mask", "rewards", "gamma", "returns"),
    [
        ([1, 1, 0, 0, 1, 1], [0, 0, 0, 0, 0, 1], 1.0, [1, 1, 0, 0, 1, 1]),
        ([1, 1, 0, 0, 1], [0, 0, 0, 0, 2], 0.5, [0.5, 1, 0, 0, 2]),
    ],
)
def test_verls_own_multi_turn_cases(mask, rewards, gamma, returns):
    # test_reinforce_pp_multiturn_on_cpu.py of the verl 0.9.1 wheel
    rewards, mask = torch.tensor([rewards], dtype=torch.float32), torch.tensor([mask])
    for _, actual in (builtin(rewards, mask, gamma), ours(rewards, mask, gamma)):
        assert actual.tolist() == [returns]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("info", [{}, {"dp_size": 2, "batch_num_tokens": 400, "global_batch_size": 16}])
def test_loss_gradient_and_metrics_equal_vanilla(mode, weighted, info):
    generator = torch.Generator().manual_seed(2)
    old, new, advantages = torch.randn(3, 6, 40, generator=generator)
    mask = torch.rand(6, 40, generator=generator) > 0.3
    weights = torch.rand(6, 40, generator=generator) if weighted else None
    # verl's low and high are 0.2 unless given, and its dual clip is on at 3.
    config = FSDPActorConfig(rollout_n=1, ppo_micro_batch_size_per_gpu=1, clip_ratio_high=0.28, global_batch_info=info)
    results = []
    for loss_fn in (compute_policy_loss_vanilla, reinforcepp_policy_loss):
        leaf = new.clone().requires_grad_()
        loss, metrics = loss_fn(old, leaf, advantages, mask, mode, config, weights)
        loss.backward()
        results.append((loss.detach(), leaf.grad, metrics))
    (loss, grad, metrics), (our_loss, our_grad, our_metrics) = results
    torch.testing.assert_close(our_loss, loss, rtol=1e-6, atol=0)
    torch.testing.assert_close(our_grad, grad, rtol=1e-6, atol=1e-9)
    assert {name: our_metrics[name] for name in metrics} == pytest.approx(metrics, rel=1e-5)
    assert metrics["actor/pg_clipfrac"] > 0.1 and metrics["actor/pg_clipfrac_lower"] > 0.01
