"""Published numbers, reproduced with our estimators and our loss."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from verl.trainer.ppo.core_algos import compute_rloo_outcome_advantage, kl_penalty
from verl.workers.config import FSDPActorConfig

from reinforcepp_verl.algorithm.batch import RewardBatch
from reinforcepp_verl.algorithm.estimators import reinforcepp_baseline
from reinforcepp_verl.algorithm.moments import Memory
from reinforcepp_verl.algorithm.options import PRESETS
from reinforcepp_verl.integration import batch_context
from reinforcepp_verl.integration.estimator_adapter import estimator_for_verl
from reinforcepp_verl.integration.loss_adapter import loss_for_verl

reinforcepp_policy_loss = loss_for_verl("reinforcepp")

VERL = {"unbiased_variance": True, "reward_clip": None}

# Wolfe, "REINFORCE: Easy Online RL for LLMs": two answers of three tokens, and their difference from the reference.
# Of the log-probabilities only their sums, -22.9 and -20, matter to the numbers.
BETA = 0.1
LOG_RATIO = torch.tensor([[-1.0, 0.1, -0.3], [-0.5, 0.2, -0.2]], dtype=torch.float64)
LOG_PROB = torch.tensor([[-9.0, -8.0, -5.9], [-9.0, -6.0, -5.0]], dtype=torch.float64)
SCORES = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 0.5]], dtype=torch.float64)


def actor(dual_clip=None, **info):
    return FSDPActorConfig(rollout_n=1, ppo_micro_batch_size_per_gpu=1, clip_ratio_c=dual_clip, global_batch_info=info)


def wolfe(estimator, **options):
    """Advantages and returns of the toy, with k1 in the reward."""
    config = OmegaConf.create({"gamma": 1.0, "use_kl_in_reward": True, "reinforcepp": options})
    with batch_context.use_context(batch_context.BatchContext(SCORES, torch.arange(2), Memory())):
        return estimator_for_verl(estimator)(
            SCORES - BETA * kl_penalty(LOG_RATIO, torch.zeros(2, 3), "k1"),
            torch.ones(2, 3, dtype=torch.long),
            config,
            np.array(["p", "p"], dtype=object),
        )


def test_wolfes_reinforce_toy():
    advantages, returns = wolfe("reinforce", baseline="batch_mean")
    torch.testing.assert_close(returns, torch.tensor([[1.12] * 3, [0.55] * 3], dtype=torch.float64))
    torch.testing.assert_close(advantages, torch.tensor([[0.285] * 3, [-0.285] * 3], dtype=torch.float64))
    assert -(advantages * LOG_PROB).sum(-1).mean().item() == pytest.approx(0.41325)

    leaf = LOG_PROB.clone().requires_grad_()
    valid = torch.ones(2, 3, dtype=torch.bool)
    reinforcepp_policy_loss(LOG_PROB, leaf, advantages, valid, "seq-mean-token-sum", actor())[0].backward()
    # The policy gradient, with the advantage held constant.
    torch.testing.assert_close(leaf.grad, torch.tensor([[-0.1425] * 3, [0.1425] * 3], dtype=torch.float64))


def test_wolfes_literal_code_also_differentiates_the_advantage():
    leaf = LOG_PROB.clone().requires_grad_()
    total = SCORES.sum(-1) - BETA * (leaf - (LOG_PROB - LOG_RATIO)).sum(-1)
    advantage = total - total.mean().detach()
    (-(advantage * leaf.sum(-1))).mean().backward()
    # Not the policy gradient: the second answer, worse than average, would be made likelier too.
    torch.testing.assert_close(leaf.grad, torch.tensor([[-1.2875] * 3, [-0.8575] * 3], dtype=torch.float64))


def test_wolfes_reinforce_toy_through_reinforcepp():
    returns = torch.tensor([[1.12, 1.02, 1.03], [0.55, 0.5, 0.52]], dtype=torch.float64)
    population = [[1.22700, 0.85518, 0.89236], [-0.89236, -1.07827, -1.00391]]
    bessel = [[1.12009, 0.78067, 0.81461], [-0.81461, -0.98432, -0.91644]]
    for options, expected in (({}, population), (VERL, bessel)):
        advantages, found = wolfe("reinforcepp", **options)
        torch.testing.assert_close(found, returns)
        torch.testing.assert_close(advantages, torch.tensor(expected, dtype=torch.float64), atol=6e-6, rtol=0)


def test_wolfes_reinforce_toy_through_the_baseline_variant():
    # Its totals as outcome rewards, as verl's built-in flattens them; Bessel over 6 tokens: sqrt(5/6).
    totals = torch.tensor([[0.0, 0.0, 1.12], [0.0, 0.0, 0.55]], dtype=torch.float64)
    batch = RewardBatch(totals, torch.ones(2, 3), group_index=torch.tensor([0, 0]))
    estimate = reinforcepp_baseline(batch, PRESETS["verl"])
    expected = torch.tensor([[0.91287] * 3, [-0.91287] * 3], dtype=torch.float64)
    torch.testing.assert_close(estimate.advantages, expected, atol=6e-6, rtol=0)


def test_wolfes_rloo_toy():
    # Three prompts of three answers: R, the leave-one-out advantage, and verl's REINFORCE++-baseline.
    total = [[1.04, 1.96, 2.95], [1.98, 2.86, 3.96], [2.82, 3.98, 5.15]]
    leave_one_out = [[-1.415, -0.035, 1.45], [-1.43, -0.11, 1.54], [-1.745, -0.005, 1.75]]
    whitened = [[-1.08863, -0.02693, 1.11556], [-1.10017, -0.08463, 1.18480], [-1.34252, -0.00385, 1.34636]]
    total, leave_one_out, whitened = (
        torch.tensor(x, dtype=torch.float64).reshape(9, 1).expand(9, 3) for x in (total, leave_one_out, whitened)
    )
    on_last_token = torch.tensor([0, 0, 1])
    batch = RewardBatch(total * on_last_token, torch.ones(9, 3), group_index=torch.arange(9) // 3)
    estimate = reinforcepp_baseline(batch, PRESETS["verl"])
    torch.testing.assert_close(estimate.returns * 3 / 2, leave_one_out)
    torch.testing.assert_close(estimate.advantages, whitened, atol=6e-6, rtol=0)

    # On policy the gradient by the log-probabilities is minus the advantage, held constant, over the answers.
    leaf = torch.full((9, 3), -1.0, dtype=torch.float64, requires_grad=True)
    valid = torch.ones(9, 3, dtype=torch.bool)
    advantages = estimate.returns * 3 / 2
    reinforcepp_policy_loss(leaf.detach(), leaf, advantages, valid, "seq-mean-token-sum", actor())[0].backward()
    torch.testing.assert_close(leaf.grad, -leave_one_out / 9)


def update(config, scores, log_ratio, groups, new=None):
    """Advantages, loss and gradient by the log-probabilities, by what a composed configuration selects."""
    algorithm, node = config.algorithm, config.actor_rollout_ref.actor
    on_last = torch.zeros_like(log_ratio)
    on_last[:, -1] = scores
    rewards = on_last - algorithm.kl_ctrl.kl_coef * kl_penalty(log_ratio, torch.zeros_like(log_ratio), "k1")
    valid = torch.ones(log_ratio.shape, dtype=torch.bool)
    context = batch_context.BatchContext(on_last, torch.arange(len(scores)), Memory())
    with batch_context.use_context(context):
        advantages, _ = estimator_for_verl(algorithm.adv_estimator)(rewards, valid, algorithm, np.array(groups))
    old = torch.full(log_ratio.shape, -1.0, dtype=torch.float64)
    leaf = (old if new is None else new).clone().requires_grad_()
    actor_config = actor(node.clip_ratio_c)
    loss, _ = loss_for_verl(node.policy_loss.loss_mode)(old, leaf, advantages, valid, node.loss_agg_mode, actor_config)
    loss.backward()
    return advantages, loss.item(), leaf.grad


def test_reinforce_by_its_method_alone(compose):
    config = compose("+method=reinforce", f"algorithm.kl_ctrl.kl_coef={BETA}")
    advantages, _, grad = update(config, SCORES[:, -1], LOG_RATIO, ["p", "q"])
    expected = torch.tensor([[0.285] * 3, [-0.285] * 3], dtype=torch.float64)
    torch.testing.assert_close(advantages, expected)
    torch.testing.assert_close(grad, -expected / 2)


def test_rloo_by_its_method_alone(compose):
    config = compose("+method=rloo", f"algorithm.kl_ctrl.kl_coef={BETA}")
    total = torch.tensor([[1.04, 1.96, 2.95], [1.98, 2.86, 3.96], [2.82, 3.98, 5.15]], dtype=torch.float64).flatten()
    # The KL belongs to R, so that scores that make up for it give the numbers of the text.
    log_ratio = torch.randn(9, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scores = total + BETA * log_ratio.sum(-1)
    advantages, _, grad = update(config, scores, log_ratio, list("aaabbbccc"))
    rows = [-1.415, -0.035, 1.45, -1.43, -0.11, 1.54, -1.745, -0.005, 1.75]
    expected = torch.tensor(rows, dtype=torch.float64)[:, None].expand(9, 3)
    torch.testing.assert_close(advantages, expected)
    torch.testing.assert_close(grad, -expected / 9)


@pytest.mark.parametrize("method", ["reinforce", "rloo"])
def test_these_methods_keep_scores_as_they_are_and_weight_answers_in_later_updates(compose, method):
    config = compose(f"+method={method}", "algorithm.kl_ctrl.kl_coef=0")
    moved = torch.tensor([[0.05, -0.1, 0.12], [0.01, 0.02, 0.03]], dtype=torch.float64)
    scores = torch.tensor([15.0, 12.0], dtype=torch.float64)
    advantages, loss, grad = update(config, scores, torch.zeros(2, 3, dtype=torch.float64), ["p", "p"], moved - 1.0)
    half = 1.5 if method == "reinforce" else 3.0
    torch.testing.assert_close(advantages[:, 0], torch.tensor([half, -half], dtype=torch.float64))
    weights = moved.sum(-1).exp() * torch.tensor([half, -half], dtype=torch.float64) / 2
    assert loss == pytest.approx(-weights.sum().item())
    torch.testing.assert_close(grad, -weights[:, None].expand(2, 3))


@pytest.mark.parametrize("sizes", [[2, 2], [4], [3, 2, 5]])
def test_rloo_is_the_baseline_times_k_over_k_minus_1(sizes):
    generator = torch.Generator().manual_seed(len(sizes))
    size = torch.tensor([k for k in sizes for _ in range(k)])
    groups = torch.tensor([g for g, k in enumerate(sizes) for _ in range(k)])
    mask = (torch.arange(6) < torch.randint(1, 7, (len(size), 1), generator=generator)).long()
    last = mask.sum(-1, keepdim=True) - 1
    scores = torch.randn(len(size), 1, generator=generator, dtype=torch.float64)
    rewards = torch.zeros(mask.shape, dtype=torch.float64).scatter(1, last, scores)
    rloo, _ = compute_rloo_outcome_advantage(rewards.clone(), mask, np.array(groups.tolist()))
    estimate = reinforcepp_baseline(RewardBatch(rewards, mask, group_index=groups), PRESETS["openrlhf"])
    torch.testing.assert_close(estimate.returns * (size / (size - 1))[:, None], rloo)


# --- OpenRLHF's tests/test_loss_aggregation.py

TOKEN_LOSS = torch.tensor([[1.0, 2.0, 0.0], [3.0, 4.0, 5.0], [7.0, 0.0, 0.0]])
MASK = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 0]]).bool()
AGGREGATED = [
    ("token-mean", 3.6667),
    ("seq-mean-token-mean", 4.1667),
    ("seq-mean-token-sum", 7.3333),
    ("seq-mean-token-sum-norm", 2.4444),
    ("token-sum", 22.0),
]


def aggregated(mode, rows=slice(None), **info):
    # On policy the loss of a token is minus its advantage.
    zeros = torch.zeros(3, 3)[rows]
    return reinforcepp_policy_loss(zeros, zeros, -TOKEN_LOSS[rows], MASK[rows], mode, actor(**info))[0].item()


@pytest.mark.parametrize(("mode", "expected"), AGGREGATED)
def test_openrlhfs_aggregation_example(mode, expected):
    assert aggregated(mode) == pytest.approx(expected, abs=5e-5)
    info = {"dp_size": 2, "batch_num_tokens": 6, "global_batch_size": 3}
    ranks = aggregated(mode, slice(0, 1), **info), aggregated(mode, slice(1, 3), **info)
    assert sum(ranks) / 2 == pytest.approx(expected, abs=5e-5)


# --- PPO's dual clip (arXiv 1912.09729) and Schulman's KL estimators


@pytest.mark.parametrize(("dual_clip", "expected", "lower"), [(3.0, 0.575, 0.25), (None, 2.075, 0.0)])
def test_the_dual_clip_case(dual_clip, expected, lower):
    old, new = torch.tensor([[0.5, 0.5, 0.5, 0.1]]).log(), torch.tensor([[0.7, 0.3, 0.55, 0.9]]).log()
    advantages, valid = torch.tensor([[1.0, 1.0, -1.0, -1.0]]), torch.ones(1, 4, dtype=torch.bool)
    loss, metrics = reinforcepp_policy_loss(old, new, advantages, valid, "token-mean", actor(dual_clip))
    assert loss.item() == pytest.approx(expected)
    assert (metrics["actor/pg_clipfrac"], metrics["actor/pg_clipfrac_lower"]) == (0.25, lower)
    assert (metrics["actor/clip_fraction_high"], metrics["actor/clip_fraction_low"]) == (0.25, 0.0)
    assert metrics["actor/ratio_max"] == pytest.approx(9.0)


@pytest.mark.parametrize(
    ("kind", "values", "slope"),
    [
        ("k2", [[0.5, 0.005, 0.045], [0.125, 0.02, 0.02]], lambda lr: lr),
        ("k3", [[0.718282, 0.004837, 0.049859], [0.148721, 0.018731, 0.021403]], lambda lr: 1 - (-lr).exp()),
        ("k3+", [[0.718282, 0.004837, 0.049859], [0.148721, 0.018731, 0.021403]], lambda lr: lr),
    ],
)
def test_the_kl_table(kind, values, slope):
    leaf = LOG_PROB.clone().requires_grad_()
    found = kl_penalty(leaf, LOG_PROB - LOG_RATIO, kind)
    torch.testing.assert_close(found.detach(), torch.tensor(values, dtype=torch.float64), atol=5e-7, rtol=0)
    found.sum().backward()
    torch.testing.assert_close(leaf.grad, slope(LOG_RATIO))
