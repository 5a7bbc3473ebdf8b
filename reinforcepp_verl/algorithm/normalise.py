"""From shaped scores to advantages: rewards-to-go, then mean and standard deviation of the batch taken out."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from reinforcepp_verl.algorithm import report, samples
from reinforcepp_verl.algorithm.batch import Reading
from reinforcepp_verl.algorithm.moments import Moments
from reinforcepp_verl.algorithm.returns import (
    at_least_fp32,
    last_valid_position,
    ones_on,
    rewards_on_valid_tokens,
    row_blocks,
    sums_to_go,
)
from reinforcepp_verl.algorithm.shaping import Shaping


class Returns(NamedTuple):
    """Returns of a batch, with what its statistics need of each row."""

    tokens: Tensor | None
    """(B, T), or None where every token of a row has the row's mean."""
    mean: Tensor
    """(B,), over the row's valid tokens, in float64."""
    deviations: Tensor
    """(B,), sum of squared deviations from that mean."""

    @classmethod
    def of_rows(cls, values: Tensor) -> Returns:
        """Give every valid token of a row the same return, `values` (B,)."""
        return cls(None, values, torch.zeros_like(values))


class Estimate(NamedTuple):
    """What an estimator gives."""

    advantages: Tensor
    """(B, T)"""
    returns: Tensor
    """(B, T), before the mean of the batch is taken out."""
    metrics: dict[str, float]
    """For the tracker; see report.py."""


def rewards_to_go(reading: Reading, *shapings: Shaping, gamma: float) -> Returns:
    """Sum shaped scores minus KL penalties from each token to the end (Eq. 4)."""
    scores, mask, kl_penalty = reading.batch.token_level_scores, reading.mask, reading.batch.kl_penalty
    shapings = tuple(shaping for shaping in shapings if not shaping.identity)
    returns = torch.empty_like(scores, dtype=at_least_fp32(scores.dtype))
    mean, deviations = torch.zeros_like(reading.rows.total), torch.zeros_like(reading.rows.total)
    for block in row_blocks(scores):
        valid = ones_on(mask[block], returns.dtype)
        rewards = rewards_on_valid_tokens(scores[block], mask[block])
        for shaping in shapings:
            rewards = shaping(rewards, last_valid_position(valid).unsqueeze(-1), block)
        if kl_penalty is not None:
            rewards = rewards - torch.where(mask[block], kl_penalty[block], 0.0)
        finite = reading.rows.finite[block].unsqueeze(-1)
        if not finite.all():
            rewards, valid = torch.where(finite, rewards, 0.0), valid * finite
        sums = sums_to_go(rewards, valid, gamma=gamma)
        returns[block] = sums
        mean[block] = sums.sum(-1) / reading.rows.tokens[block].clamp(min=1)
        sums.sub_(mean[block].unsqueeze(-1)).mul_(valid)
        deviations[block] = torch.linalg.vecdot(sums, sums)
    return Returns(returns, mean, deviations)


def normalised(reading: Reading, returns: Returns, *, pinned: Tensor) -> Estimate:
    """Take out the mean and the standard deviation of the population, which `pinned` rows are no part of (Eq. 5, 7)."""
    options = reading.options
    counted = reading.usable & ~pinned
    if options.population == "token":
        weight = counted.double()
    else:
        weight = samples.token_weights(reading.batch.session_index, counted, reading.rows.tokens)
    moments = Moments.of_rows(reading.rows.tokens, returns.mean, returns.deviations, weight)
    if options.statistics == "running":
        moments = reading.memory.pool(moments, options.statistics_window)
    scale = max(moments.variance(unbiased=options.unbiased_variance), options.variance_floor) ** -0.5
    return centred(reading, returns, centre=moments.mean, scale=scale, pinned=pinned)


def centred(reading: Reading, returns: Returns, *, centre: float, pinned: Tensor, scale: float = 1.0) -> Estimate:
    """Return `(returns - centre) * scale` on valid tokens, 0 on `pinned` rows."""
    factor = (reading.usable & ~pinned).double() * scale
    row_advantage = (returns.mean - centre) * factor
    if returns.tokens is None:
        tokens, advantages = _on_tokens(reading, returns.mean, row_advantage)
    else:
        tokens = returns.tokens
        advantages = _affine(tokens, reading.mask, centre=centre, factor=factor)
    metrics = report.measure(reading, returns.mean, returns.deviations, advantage=row_advantage, factor=factor)
    return Estimate(advantages, tokens, metrics)


def _on_tokens(reading: Reading, *values: Tensor) -> list[Tensor]:
    """Spread each of `values` (B,) over the rows' valid tokens (B, T)."""
    scores, dtype = reading.batch.token_level_scores, at_least_fp32(reading.batch.token_level_scores.dtype)
    columns = [torch.where(reading.usable, column, 0.0).to(dtype).unsqueeze(-1) for column in values]
    spreads = [torch.empty_like(scores, dtype=dtype) for _ in values]
    for block in row_blocks(scores):
        valid = ones_on(reading.mask[block], dtype)
        for column, spread in zip(columns, spreads, strict=True):
            torch.mul(valid, column[block], out=spread[block])
    return spreads


def _affine(returns: Tensor, mask: Tensor, *, centre: float, factor: Tensor) -> Tensor:
    """Return `(returns - centre) * factor` on valid tokens; `returns` is 0 on the others."""
    result = torch.empty_like(returns)
    column = factor.to(returns.dtype).unsqueeze(-1)
    for block in row_blocks(returns):
        valid = ones_on(mask[block], returns.dtype)
        torch.sub(returns[block], valid, alpha=centre, out=result[block]).mul_(column[block])
    return result
