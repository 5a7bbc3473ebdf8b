"""The gradient of the policy loss against a closed form, and the contribution of the KL terms.

How it adds up over micro-batches and ranks: test_gradient_splits.py.
"""

import pytest
import torch
from omegaconf import OmegaConf
from verl.trainer.ppo.core_algos import agg_loss, kl_penalty
from verl.workers.config import FSDPActorConfig

from reinforcepp_verl.algorithm.moments import Memory
from reinforcepp_verl.integration import batch_context
from reinforcepp_verl.integration.estimator_adapter import estimator_for_verl
from reinforcepp_verl.integration.loss_adapter import loss_for_verl

reinforcepp_policy_loss = loss_for_verl("reinforcepp")

ROWS, LENGTH, VOCABULARY = 8, 12, 7
MODES = ["token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"]
LOSSES = [(mode, None) for mode in MODES] + [("seq-mean-token-sum-norm", 100)]
LOW, HIGH = 0.2, 0.28
BETA = 0.3


def actor(dual_clip=None, **info):
    return FSDPActorConfig(
        rollout_n=1,
        ppo_micro_batch_size_per_gpu=1,
        clip_ratio_low=LOW,
        clip_ratio_high=HIGH,
        clip_ratio_c=dual_clip,
        global_batch_info=info,
    )


def token_weights(mask, mode, loss_scale_factor):
    """d(aggregated loss) / d(loss of a token), (B, T)."""
    mask = mask.double()
    answers = (mask.sum(-1) > 0).sum()
    return {
        "token-mean": mask / mask.sum(),
        "token-sum": mask,
        "seq-mean-token-sum": mask / answers,
        "seq-mean-token-mean": mask / mask.sum(-1, keepdim=True).clamp(min=1) / answers,
        "seq-mean-token-sum-norm": mask / answers / (loss_scale_factor or mask.shape[1]),
    }[mode]


def closed_form(logits, tokens, old_log_prob, advantages, *, weights, dual_clip):
    """d loss / d logits (B, T, V), with d log pi(a) / d logits = onehot(a) - pi; `weights` (B, T) are of all kinds."""
    policy = logits.exp() / logits.exp().sum(-1, keepdim=True)
    ratio = policy.gather(-1, tokens[..., None])[..., 0] / old_log_prob.exp()
    live = torch.where(advantages > 0, ratio < 1 + HIGH, ratio > 1 - LOW)
    if dual_clip is not None:
        live &= (advantages > 0) | (ratio < dual_clip)
    onehot = torch.eye(logits.shape[-1], dtype=torch.float64)[tokens]
    return (-advantages * ratio * live * weights)[..., None] * (onehot - policy), live


@pytest.mark.parametrize(("mode", "loss_scale_factor"), LOSSES)
@pytest.mark.parametrize("dual_clip", [None, 2.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_by_the_logits_is_the_closed_form(mode, loss_scale_factor, dual_clip, weighted):
    generator = torch.Generator().manual_seed(9)
    logits = torch.randn(ROWS, LENGTH, VOCABULARY, generator=generator, dtype=torch.float64)
    tokens = torch.randint(VOCABULARY, (ROWS, LENGTH), generator=generator)
    noise, advantages = torch.randn(2, ROWS, LENGTH, generator=generator, dtype=torch.float64)
    old_log_prob = logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0] - 0.7 * noise
    mask = torch.rand(ROWS, LENGTH, generator=generator) > 0.3
    mask[3] = False
    rollout_weights = None
    weights = token_weights(mask, mode, loss_scale_factor)
    if weighted:
        # Importance weights between rollout and training engine; 0 on tokens that IcePop rejects.
        rollout_weights = torch.rand(ROWS, LENGTH, generator=generator, dtype=torch.float64).mul(2).sub(0.5).clamp(0)
        weights = weights * rollout_weights
    expected, live = closed_form(logits, tokens, old_log_prob, advantages, weights=weights, dual_clip=dual_clip)
    assert 0.3 < live[mask].double().mean() < 0.8

    leaf = logits.clone().requires_grad_()
    log_prob = leaf.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    config = actor(dual_clip, loss_scale_factor=loss_scale_factor)
    loss, _ = reinforcepp_policy_loss(old_log_prob, log_prob, advantages, mask, mode, config, rollout_weights)
    loss.backward()
    # verl adds 1e-8 to the length of an answer in seq-mean-token-mean.
    torch.testing.assert_close(leaf.grad, expected, atol=1e-14, rtol=2e-8)


# --- KL: as a loss, or in the reward


@pytest.fixture
def policies():
    """Log-probabilities of sampled answers under the policy and the reference, masks with gaps."""
    generator = torch.Generator().manual_seed(3)
    log_prob, ref_log_prob = -torch.rand(2, ROWS, LENGTH, generator=generator, dtype=torch.float64)
    mask = torch.rand(ROWS, LENGTH, generator=generator) > 0.3
    mask[:, 0] = True
    return log_prob, ref_log_prob, mask


def gradient_of_kl_in_reward(estimator, policies, gamma, mode):
    """The policy gradient, on policy, of a reward that is only the k1 penalty, before any normalization."""
    log_prob, ref_log_prob, mask = policies
    scores = torch.zeros_like(log_prob)
    penalty = BETA * kl_penalty(log_prob, ref_log_prob, "k1") * mask
    node = {"gamma": gamma, "use_kl_in_reward": True, "reinforcepp": {"baseline": "none"}}
    with batch_context.use_context(batch_context.BatchContext(scores, torch.arange(len(scores)), Memory())):
        advantages, _ = estimator_for_verl(estimator)(scores - penalty, mask, OmegaConf.create(node))
    leaf = log_prob.clone().requires_grad_()
    reinforcepp_policy_loss(log_prob, leaf, advantages, mask, mode, actor())[0].backward()
    return leaf.grad


@pytest.mark.parametrize("mode", MODES)
def test_k2_as_a_loss_is_k1_in_the_reward_token_by_token(policies, mode):
    # arXiv 2510.01555: each token pays for its own KL, in the reward that is gamma = 0.
    log_prob, ref_log_prob, mask = policies
    leaf = log_prob.clone().requires_grad_()
    (BETA * agg_loss(kl_penalty(leaf, ref_log_prob, "k2"), mask, mode)).backward()
    in_reward = gradient_of_kl_in_reward("reinforce_reward_to_go", policies, 0.0, mode)
    assert leaf.grad.abs().max() > 1e-4
    torch.testing.assert_close(in_reward, leaf.grad, rtol=1e-7, atol=1e-12)


def test_k2_of_whole_answers_as_a_loss_is_k1_in_the_reward(policies):
    log_prob, ref_log_prob, mask = policies
    leaf = log_prob.clone().requires_grad_()
    (BETA * 0.5 * ((leaf - ref_log_prob) * mask).sum(-1).square()).mean().backward()
    in_reward = gradient_of_kl_in_reward("reinforce", policies, 1.0, "seq-mean-token-sum")
    torch.testing.assert_close(in_reward, leaf.grad, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("estimator", ["reinforce", "reinforce_reward_to_go"])
def test_expected_gradients_of_k2_loss_and_k1_reward_are_that_of_the_kl_divergence(estimator):
    # All actions of a one-token policy, each weighted by its probability.
    generator = torch.Generator().manual_seed(1)
    logits, ref_logits = torch.randn(2, VOCABULARY, generator=generator, dtype=torch.float64)
    leaf = logits.clone().requires_grad_()
    policy, log_prob = leaf.softmax(-1), leaf.log_softmax(-1)
    ref = ref_logits.log_softmax(-1)
    (exact,) = torch.autograd.grad((policy * (log_prob - ref)).sum(), leaf)

    def expected_gradient(by_log_prob):
        leaf = logits.clone().requires_grad_()
        leaf.log_softmax(-1).backward(policy.detach() * by_log_prob)
        return leaf.grad

    def by_log_prob(kind):
        leaf = log_prob.detach().requires_grad_()
        kl_penalty(leaf, ref, kind).sum().backward()
        return leaf.grad

    torch.testing.assert_close(expected_gradient(by_log_prob("k2")), exact)
    assert expected_gradient(by_log_prob("k1")).abs().max() < 1e-15, "k1 as a loss pulls nowhere"
    assert (expected_gradient(by_log_prob("k3")) - exact).abs().max() > 0.01, "k3 as a loss pulls elsewhere"

    answers = log_prob.detach()[:, None], ref[:, None], torch.ones(VOCABULARY, 1, dtype=torch.bool)
    in_reward = gradient_of_kl_in_reward(estimator, answers, 1.0, "token-sum")[:, 0] / BETA
    torch.testing.assert_close(expected_gradient(in_reward), exact)
