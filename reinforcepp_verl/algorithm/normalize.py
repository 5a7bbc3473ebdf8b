"""From shaped scores to advantages: rewards-to-go, then normalization by mean and standard deviation of the batch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from reinforcepp_verl.algorithm import samples
from reinforcepp_verl.algorithm.batch import PreparedBatch
from reinforcepp_verl.algorithm.metrics import batch_metrics
from reinforcepp_verl.algorithm.moments import Moments
from reinforcepp_verl.algorithm.placement import place_scores
from reinforcepp_verl.algorithm.returns import (
    as_float,
    at_least_fp32,
    discounted_returns,
    row_blocks,
)
from reinforcepp_verl.algorithm.shaping import Shaping


class Returns(NamedTuple):
    """Returns of a batch, with the row statistics that normalization needs."""

    tokens: Tensor | None
    """(B, T), or None if every token of a row has the row's mean."""
    mean: Tensor
    """(B,), over the row's valid tokens, in float64."""
    squared_deviations: Tensor
    """(B,), sum of squared deviations from that mean."""

    @classmethod
    def from_rows(cls, values: Tensor) -> Returns:
        """Give every valid token of a row the same return, `values` (B,)."""
        return cls(None, values, torch.zeros_like(values))


class Estimate(NamedTuple):
    """The output of an estimator."""

    advantages: Tensor
    """(B, T)"""
    returns: Tensor
    """(B, T), before the mean of the batch is subtracted."""
    metrics: dict[str, float]
    """Metrics for the tracker; see metrics.py."""


def rewards_to_go(prepared: PreparedBatch, *shapings: Shaping, gamma: float) -> Returns:
    """Sum shaped scores minus KL penalties from each token to the end (Eq. 4)."""
    scores, mask, kl_penalty = prepared.batch.token_level_scores, prepared.mask, prepared.batch.kl_penalty
    score_mask = prepared.score_mask
    shapings = tuple(shaping for shaping in shapings if not shaping.is_identity)
    returns = torch.empty_like(scores, dtype=at_least_fp32(scores.dtype))
    mean, squared_deviations = torch.zeros_like(prepared.rows.total), torch.zeros_like(prepared.rows.total)
    for block in row_blocks(scores):
        valid = as_float(mask[block], returns.dtype)
        rewards = scores[block].to(returns.dtype)
        if shapings or not prepared.rows.as_given[block].all():
            placed = place_scores(rewards, mask[block], score_mask[block] if score_mask is not None else None)
            for shaping in shapings:
                placed = shaping(placed, block)
            rewards = placed.scores
        if kl_penalty is not None:
            rewards = rewards - torch.where(mask[block], kl_penalty[block], 0.0)
        finite = prepared.rows.finite[block].unsqueeze(-1)
        if not finite.all():
            rewards, valid = torch.where(finite, rewards, 0.0), valid * finite
        sums = discounted_returns(rewards, mask[block], gamma=gamma).mul_(valid)
        returns[block] = sums
        mean[block] = sums.sum(-1) / prepared.rows.tokens[block].clamp(min=1)
        sums.addcmul_(valid, mean[block].unsqueeze(-1), value=-1)
        squared_deviations[block] = torch.linalg.vecdot(sums, sums)
    return Returns(returns, mean, squared_deviations)


def normalized_advantages(prepared: PreparedBatch, returns: Returns, *, excluded: Tensor) -> Estimate:
    """Normalize by mean and standard deviation of the population, without the `excluded` rows (Eq. 5, 7)."""
    options = prepared.options
    counted = prepared.usable & ~excluded
    if options.population == "token":
        weight = counted.double()
    else:
        weight = samples.token_weights(prepared.batch.session_index, counted, prepared.rows.tokens)
    moments = Moments.from_rows(prepared.rows.tokens, returns.mean, returns.squared_deviations, weight)
    if options.statistics == "running":
        moments = prepared.memory.pool(moments, options.statistics_window)
    scale = max(moments.variance(unbiased=options.unbiased_variance), options.variance_floor) ** -0.5
    return centered_advantages(prepared, returns, center=moments.mean, scale=scale, excluded=excluded)


def centered_advantages(
    prepared: PreparedBatch, returns: Returns, *, center: float, excluded: Tensor, scale: float = 1.0
) -> Estimate:
    """Return `(returns - center) * scale` on valid tokens, 0 on `excluded` rows."""
    factor = (prepared.usable & ~excluded).double() * scale
    row_advantage = (returns.mean - center) * factor
    if returns.tokens is None:
        tokens, advantages = _broadcast_to_tokens(prepared, returns.mean, row_advantage)
    else:
        tokens = returns.tokens
        advantages = _shift_and_scale(tokens, prepared.mask, center=center, factor=factor)
    metrics = batch_metrics(prepared, returns.mean, returns.squared_deviations, advantage=row_advantage, factor=factor)
    return Estimate(advantages, tokens, metrics)


def _broadcast_to_tokens(prepared: PreparedBatch, *values: Tensor) -> list[Tensor]:
    """Spread each of `values` (B,) over the rows' valid tokens (B, T)."""
    scores, dtype = prepared.batch.token_level_scores, at_least_fp32(prepared.batch.token_level_scores.dtype)
    columns = [torch.where(prepared.usable, column, 0.0).to(dtype).unsqueeze(-1) for column in values]
    spreads = [torch.empty_like(scores, dtype=dtype) for _ in values]
    for block in row_blocks(scores):
        valid = as_float(prepared.mask[block], dtype)
        for column, spread in zip(columns, spreads, strict=True):
            torch.mul(valid, column[block], out=spread[block])
    return spreads


def _shift_and_scale(returns: Tensor, mask: Tensor, *, center: float, factor: Tensor) -> Tensor:
    """Return `(returns - center) * factor` on valid tokens; `returns` is 0 on the others."""
    result = torch.empty_like(returns)
    column = factor.to(returns.dtype).unsqueeze(-1)
    for block in row_blocks(returns):
        valid = as_float(mask[block], returns.dtype)
        torch.sub(returns[block], valid, alpha=center, out=result[block]).mul_(column[block])
    return result
