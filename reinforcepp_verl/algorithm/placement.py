"""Places scores on valid tokens, those sampled by the policy, and tells which of these tokens carry a score.

A score on any other token (padding, a tool's output, a rejected token) moves to the last valid token before it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from reinforcepp_verl.algorithm.returns import any_true, as_float, at_least_fp32, last_valid_position


class PlacedScores(NamedTuple):
    """Scores of a block of rows on valid tokens."""

    scores: Tensor
    """(b, T), at least fp32, 0 on masked tokens."""
    last: Tensor
    """(b, 1), position of the last valid token, 0 for rows without one."""
    score_mask: Tensor | None
    """(b, T) bool, True on the valid tokens that carry a score, 0 included; None: in each row the last one does."""
    moved: Tensor
    """(b,), number of scores that were moved."""
    unplaced: Tensor
    """(b,), True for rows with a score before their first valid token."""
    tokens: Tensor
    """(b,), number of valid tokens."""
    as_given: bool
    """True if the scores are those given: nothing is on masked tokens."""


def place_scores(scores: Tensor, valid: Tensor, score_mask: Tensor | None = None) -> PlacedScores:
    """Place scores (b, T) on the tokens that `valid` marks; `score_mask` marks those with a score. Both are bool.

    A row without a mark has an outcome score, which its last valid token carries. Without a mark, a masked token has a
    score if it is finite and not 0; after the last valid token, where verl puts an outcome, also if it is not finite.
    """
    scores = scores.to(at_least_fp32(scores.dtype))
    weight = as_float(valid, scores.dtype)
    last = last_valid_position(weight).unsqueeze(-1)
    kept = scores * weight
    tokens = weight.sum(-1).double()
    # The common case, and several times faster: nothing is on masked tokens.
    if _equal(scores, kept) and (score_mask is None or not any_true(score_mask & ~valid)):
        none = torch.zeros_like(tokens)
        return PlacedScores(kept, last, _or_outcome(score_mask, last), none, none.bool(), tokens, as_given=True)
    return _moved(scores, valid, score_mask, last, tokens)


def _equal(scores: Tensor, kept: Tensor) -> bool:
    """Return True if both have the same finite values, four times faster than `torch.equal`."""
    if not scores.numel():
        return True
    low, high = (scores - kept).aminmax()
    return bool((low == 0) & (high == 0))


def _moved(scores: Tensor, valid: Tensor, score_mask: Tensor | None, last: Tensor, tokens: Tensor) -> PlacedScores:
    position = torch.arange(scores.shape[-1], device=scores.device)
    target = torch.where(valid, position, -1).cummax(-1).values
    has_score = (scores != 0) & (scores.isfinite() | (position > last))
    if score_mask is not None:
        has_score |= score_mask
    moving = has_score & ~valid & (target >= 0)
    unplaced = (has_score & (target < 0)).any(-1) & valid.any(-1)
    target = target.clamp(min=0)
    placed = torch.where(valid, scores, 0.0).scatter_add(-1, target, torch.where(moving, scores, 0.0))
    if score_mask is not None:
        arrived = torch.zeros_like(target).scatter_add(-1, target, (score_mask & moving).long()) > 0
        score_mask = (score_mask & valid) | arrived
    moved = moving.sum(-1).double()
    return PlacedScores(placed, last, _or_outcome(score_mask, last), moved, unplaced, tokens, as_given=False)


def _or_outcome(score_mask: Tensor | None, last: Tensor) -> Tensor | None:
    """Mark the last valid token of the rows in which no token is marked."""
    if score_mask is None:
        return None
    return score_mask | torch.zeros_like(score_mask).scatter(-1, last, ~score_mask.any(-1, keepdim=True))
