"""Hand-computed cases for reinforcepp_verl.algorithm.losses."""

import math

import pytest
import torch

from reinforcepp_verl.algorithm.losses import (
    LOG_RATIO_LIMIT,
    ClipRange,
    LossBatch,
    clipped_answer_loss,
    clipped_surrogate,
    masked_mean,
)
from reinforcepp_verl.algorithm.options import NoOptions

# Probabilities of four tokens before and after the update, and their advantages: one of them needs the dual clip.
OLD = torch.tensor([[0.5, 0.5, 0.5, 0.1]]).log()
NEW = torch.tensor([[0.7, 0.3, 0.55, 0.9]]).log()
ADVANTAGES = torch.tensor([[1.0, 1.0, -1.0, -1.0]])
CLIP = {"clip_low": 0.2, "clip_high": 0.2}


def gradient(log_prob, old_log_prob, **options):
    leaf = log_prob.clone().requires_grad_()
    clipped_surrogate(leaf, old_log_prob, **options).loss.sum().backward()
    return leaf.grad


def test_clip_without_dual_clip():
    terms = clipped_surrogate(NEW, OLD, advantages=ADVANTAGES, **CLIP)
    torch.testing.assert_close(terms.loss, torch.tensor([[-1.2, -0.6, 1.1, 9.0]]))
    assert terms.loss.mean().item() == pytest.approx(2.075)
    assert terms.clipped.tolist() == [[True, False, False, False]]
    assert terms.dual_clipped.tolist() == [[False] * 4]
    torch.testing.assert_close(terms.approx_kl, OLD - NEW)


def test_dual_clip_caps_negative_advantages_only():
    terms = clipped_surrogate(NEW, OLD, advantages=ADVANTAGES, **CLIP, dual_clip=3.0)
    torch.testing.assert_close(terms.loss, torch.tensor([[-1.2, -0.6, 1.1, 3.0]]))
    assert terms.loss.mean().item() == pytest.approx(0.575)
    assert terms.clipped.tolist() == [[True, False, False, False]]
    assert terms.dual_clipped.tolist() == [[False, False, False, True]]


def test_gradient_matches_the_closed_form():
    # d(-A s)/d(log_prob) = -A s, and 0 for a clipped token
    ratio = (NEW - OLD).exp()
    expected = torch.where(torch.tensor([[False, True, True, True]]), -ADVANTAGES * ratio, 0.0)
    torch.testing.assert_close(gradient(NEW, OLD, advantages=ADVANTAGES, **CLIP), expected)
    expected[0, 3] = 0.0
    torch.testing.assert_close(gradient(NEW, OLD, advantages=ADVANTAGES, **CLIP, dual_clip=3.0), expected)


def test_on_policy_gradient_is_the_policy_gradient():
    # Wolfe's REINFORCE example. The advantage is a constant here; the blog's literal code also differentiates it.
    log_prob = torch.tensor([[-1.0, -0.5, -0.2], [-0.3, -2.0, -0.7]])
    advantages = torch.tensor([[0.285], [-0.285]]).expand(2, 3)
    torch.testing.assert_close(
        gradient(log_prob, log_prob, advantages=advantages, **CLIP) / 2,
        torch.tensor([[-0.1425] * 3, [0.1425] * 3]),
    )


def answer_loss(log_prob, old_log_prob, advantages, mask, dual=None):
    """Loss, gradient and metrics of `reinforcepp_answer`, summed over tokens and averaged over answers."""
    leaf = log_prob.clone().requires_grad_()
    batch = LossBatch(leaf, old_log_prob, advantages, mask.bool(), ClipRange(0.2, 0.2, dual))
    terms = clipped_answer_loss(batch, NoOptions())
    total = terms.loss.sum(-1).mean()
    total.backward()
    return total.item(), leaf.grad, terms.metrics


def test_the_ratio_of_a_whole_answer_is_that_of_its_sum():
    # Two answers of two tokens and one: ratios exp(0.1 + 0.05) and exp(-0.3); the second is below 0.8, advantage -1.
    old = torch.tensor([[-1.0, -2.0], [-1.0, 0.0]], dtype=torch.float64)
    new = old + torch.tensor([[0.1, 0.05], [-0.3, 0.7]], dtype=torch.float64)
    mask = torch.tensor([[1, 1], [1, 0]])
    advantages = torch.tensor([[2.0, 2.0], [-1.0, 9.0]], dtype=torch.float64)
    loss, grad, metrics = answer_loss(new, old, advantages, mask)
    assert loss == pytest.approx((-2 * math.exp(0.15) + 0.8) / 2)
    torch.testing.assert_close(grad, torch.tensor([[-2 * math.exp(0.15) / 2] * 2, [0.0, 0.0]], dtype=torch.float64))
    assert metrics["actor/pg_clipfrac"].tolist() == [[False, False], [True, True]]
    assert metrics["actor/ratio_max"] == pytest.approx(math.exp(0.15))
    # Per token: the means over the tokens of each answer.
    torch.testing.assert_close(metrics["actor/ppo_kl"][:, 0], torch.tensor([-0.075, 0.3], dtype=torch.float64))


def test_on_policy_the_loss_of_answers_has_the_gradient_of_that_of_tokens():
    log_prob = torch.tensor([[-1.0, -0.5, -0.2], [-0.3, -2.0, -0.7]])
    advantages = torch.tensor([[0.285], [-0.285]]).expand(2, 3)
    _, grad, _ = answer_loss(log_prob, log_prob, advantages, torch.ones(2, 3))
    torch.testing.assert_close(grad, gradient(log_prob, log_prob, advantages=advantages, **CLIP) / 2)


def test_the_second_update_weights_an_answer_by_its_ratio():
    # Importance sampling by hand: d/dw of -A exp(sum(new) - sum(old)) is -A ratio for every token of the answer.
    old = torch.tensor([[-1.0, -1.0, -1.0]], dtype=torch.float64)
    new = old + torch.tensor([[0.05, -0.1, 0.12]], dtype=torch.float64)
    _, grad, _ = answer_loss(new, old, torch.full((1, 3), 0.5, dtype=torch.float64), torch.ones(1, 3))
    torch.testing.assert_close(grad, torch.full((1, 3), -0.5 * math.exp(0.07), dtype=torch.float64))


def test_an_answer_without_a_valid_token_has_no_loss():
    zeros = torch.zeros(2, 2)
    loss, grad, _ = answer_loss(zeros, zeros, torch.ones(2, 2), torch.tensor([[0, 0], [1, 1]]), dual=3.0)
    _, _, metrics = answer_loss(zeros - 1, zeros, torch.ones(2, 2), torch.tensor([[0, 0], [1, 1]]))
    assert metrics["actor/ratio_max"] == pytest.approx(math.exp(-2))
    assert loss == -0.5 and grad.tolist() == [[0.0, 0.0], [-0.5, -0.5]]


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [
        (0.75, 1.0, -0.75, False),
        (0.75, -1.0, 0.8, True),  # 1 - clip_low
        (1.25, 1.0, -1.25, False),
        (1.5, 1.0, -1.28, True),  # 1 + clip_high
        (1.5, -1.0, 1.5, False),
        (1.5, 0.0, 0.0, False),
    ],
)
def test_clip_range_is_asymmetric(ratio, advantage, loss, clipped):
    terms = clipped_surrogate(
        torch.tensor([[math.log(ratio)]]),
        torch.zeros(1, 1),
        advantages=torch.tensor([[advantage]]),
        clip_low=0.2,
        clip_high=0.28,
    )
    assert terms.loss.item() == pytest.approx(loss, abs=1e-6)
    assert terms.clipped.item() is clipped


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_extreme_log_ratios_stay_finite(dtype):
    new, old = torch.tensor([[0.0, -500.0]], dtype=dtype), torch.tensor([[-500.0, 0.0]], dtype=dtype)
    terms = clipped_surrogate(new, old, advantages=-torch.ones(1, 2), **CLIP)
    assert terms.loss.isfinite().all() and terms.loss.dtype == torch.promote_types(dtype, torch.float32)
    assert terms.approx_kl.tolist() == [[-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT]]
    assert gradient(new, old, advantages=-torch.ones(1, 2), **CLIP).tolist() == [[0.0, 0.0]]


def test_masked_mean_ignores_masked_nan_and_survives_an_empty_mask():
    values = torch.tensor([[1.0, float("nan"), 3.0]])
    assert masked_mean(values, torch.tensor([[1, 0, 1]])).item() == 2.0
    assert masked_mean(values, torch.zeros(1, 3)).item() == 0.0
    assert masked_mean(torch.tensor([[True, False, False]]), torch.tensor([[1, 1, 0]])).item() == 0.5
