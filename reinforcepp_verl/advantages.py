"""REINFORCE++ advantages (arXiv 2501.03262v9) as pure tensor functions: torch in, torch out, no framework.

Shapes are (B, T) unless said otherwise. A mask marks the *valid* tokens, those sampled by the policy: bool, or any
number that is non-zero on them. Masked values are replaced, never multiplied by zero, because `nan * 0` is `nan`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _at_least_fp32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def rewards_on_valid_tokens(rewards: Tensor, mask: Tensor) -> Tensor:
    """Zero the masked rewards, after moving those behind a row's last valid token onto that token.

    verl puts the score on the last position of the response even if that position is masked (a rejected token, a
    trailing observation). Rewards in holes between valid tokens, non-finite trailing rewards and rows without a valid
    token contribute nothing.
    """
    valid = mask.bool()
    rewards = _at_least_fp32(rewards)
    valid_from_here = valid.long().flip(-1).cumsum(-1).flip(-1)
    trailing = (valid_from_here == 0) & rewards.isfinite()
    moved = torch.where(trailing, rewards, 0.0).sum(-1, keepdim=True)
    last_valid = valid & (valid_from_here == 1)
    return torch.where(valid, rewards, 0.0) + torch.where(last_valid, moved, 0.0)


def returns_to_go(rewards: Tensor, mask: Tensor, *, gamma: float) -> Tensor:
    """Return `G_t = r_t + gamma * G_next` over valid tokens, 0 on masked ones (Eq. 4 for gamma = 1).

    A hole carries the later return without discount, so the length of a tool's output changes nothing.
    """
    valid = mask.bool()
    returns = torch.where(valid, _at_least_fp32(rewards), 0.0)
    if gamma == 1.0:
        returns = returns.flip(-1).cumsum(-1).flip(-1)
    else:
        returns = _discounted_sum(returns, torch.ones_like(returns).masked_fill(valid, gamma))
    return torch.where(valid, returns, 0.0)


def _discounted_sum(values: Tensor, decay: Tensor) -> Tensor:
    """Solve `G_t = values_t + decay_t * G_{t+1}` by doubling: ceil(log2(T)) steps in place of T.

    After each step `values` holds sums over twice as many positions and `decay` the discounts across them. Only
    products of factors in [0, 1] are formed, hence no overflow; the usual `cumsum(r * g^t) / g^t` would.
    """
    values = values.clone()
    length = values.shape[-1]
    shift = 1
    while shift < length:
        values[..., :-shift] += decay[..., : length - shift] * values[..., shift:]
        decay = decay[..., :-shift] * decay[..., shift:]
        shift *= 2
    return values


def masked_whiten(values: Tensor, mask: Tensor, *, variance_floor: float, unbiased: bool) -> Tensor:
    """Give the valid tokens of the whole batch zero mean and unit variance; 0 on masked tokens (Eq. 5 and 7).

    The population is the tokens. No valid token, or only one, gives zeros.
    """
    valid = mask.bool()
    values = torch.where(valid, _at_least_fp32(values), 0.0)
    count = valid.sum()
    # Sums in float64 make the mean of equal values exact: a constant batch whitens to 0, not to rounding noise times
    # rsqrt(variance_floor).
    mean = values.sum(dtype=torch.float64) / count.clamp(min=1)
    centred = torch.where(valid, values - mean.to(values.dtype), 0.0)
    variance = centred.square().sum(dtype=torch.float64) / (count - int(unbiased)).clamp(min=1)
    return centred * variance.clamp(min=variance_floor).rsqrt().to(values.dtype)


def group_mean_baseline(scores: Tensor, group_index: Tensor, *, valid_rows: Tensor) -> Tensor:
    """Subtract from each score the mean of its group, own score included (Eq. 6).

    Rows that are not valid (every token rejected) leave the mean and get 0. A group with one valid row gets 0: it has
    nothing to compare with, and its raw score would outweigh the centred ones.

    Args:
        scores: (B,)
        group_index: (B,) integers, equal for answers to the same prompt
        valid_rows: (B,)
    """
    valid = valid_rows.bool()
    # float64, as in masked_whiten: a group of equal scores must be centred to exactly 0.
    kept = torch.where(valid, scores.double(), 0.0)
    _, group = torch.unique(group_index, return_inverse=True)
    totals = torch.zeros_like(kept).index_add(0, group, kept)
    counts = torch.zeros_like(kept).index_add(0, group, valid.double())
    means = totals / counts.clamp(min=1)
    return torch.where(valid, kept - means[group], 0.0).to(_at_least_fp32(scores).dtype)


def reinforcepp(
    token_level_rewards: Tensor,
    response_mask: Tensor,
    *,
    gamma: float,
    variance_floor: float,
    unbiased_variance: bool,
) -> tuple[Tensor, Tensor]:
    """Compute REINFORCE++ advantages: reward-to-go, then normalised over the whole batch (Eq. 4 and 5).

    Returns:
        advantages (B, T) and un-normalised returns (B, T), both 0 on masked tokens
    """
    rewards = rewards_on_valid_tokens(token_level_rewards, response_mask)
    returns = returns_to_go(rewards, response_mask, gamma=gamma)
    advantages = masked_whiten(returns, response_mask, variance_floor=variance_floor, unbiased=unbiased_variance)
    return advantages, returns


def reinforcepp_baseline(
    token_level_rewards: Tensor,
    response_mask: Tensor,
    *,
    group_index: Tensor,
    variance_floor: float,
    unbiased_variance: bool,
) -> tuple[Tensor, Tensor]:
    """Compute REINFORCE++-baseline advantages: group-centred score, then normalised over the batch (Eq. 6 and 7).

    Args:
        group_index: (B,) integers, equal for answers to the same prompt

    Returns:
        advantages (B, T) and un-normalised group-centred scores (B, T), both 0 on masked tokens
    """
    valid = response_mask.bool()
    scores = rewards_on_valid_tokens(token_level_rewards, response_mask).sum(-1)
    centred = group_mean_baseline(scores, group_index, valid_rows=valid.any(-1))
    returns = torch.where(valid, centred.unsqueeze(-1), 0.0)
    advantages = masked_whiten(returns, response_mask, variance_floor=variance_floor, unbiased=unbiased_variance)
    return advantages, returns
