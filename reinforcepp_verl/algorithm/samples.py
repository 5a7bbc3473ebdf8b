"""Rows, their sessions and prompt groups: which answers are compared, and with which weight.

A row is one line of the (B, T) batch. A session is one run of an agent, which may produce several rows that share its
score. A group is all sessions of one prompt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reinforcepp_verl.algorithm.placement import PlacedScores, place_scores
from reinforcepp_verl.algorithm.returns import row_blocks


@dataclass
class RowSummary:
    """Statistics per row of a batch: each (B,), in float64; sums over a row are at least fp32."""

    tokens: Tensor
    """Valid tokens."""
    total: Tensor
    """Sum of the scores on valid tokens; 0 for a row that is not usable."""
    scored_tokens: Tensor
    """Number of valid tokens that carry a score."""
    outcome: Tensor
    """True for rows in which only the last valid token carries a score."""
    early_score: Tensor
    """True for rows with a score other than 0 before the last valid token."""
    unmarked_score: Tensor
    """True for rows with a score other than 0 on a token that carries none."""
    moved_scores: Tensor
    """Number of scores on masked tokens, each moved to the last valid token before it."""
    unplaced_score: Tensor
    """True for rows with a score before their first valid token."""
    as_given: Tensor
    """True for rows without anything on masked tokens."""
    max_abs_score: Tensor
    """Largest absolute score."""
    min_score: Tensor
    """Smallest score on the tokens that carry one."""
    max_score: Tensor
    """Largest of these."""
    kl_penalty: Tensor
    """Sum of the KL penalties on valid tokens; 0 for a row that is not usable."""
    finite: Tensor
    """False if a score or a KL penalty on a valid token is NaN or infinite."""

    @property
    def usable(self) -> Tensor:
        """True for rows that are finite and have a valid token; all others are ignored."""
        return self.finite & (self.tokens > 0)


def summarize(
    scores: Tensor,
    mask: Tensor,
    score_mask: Tensor | None = None,
    *,
    kl_penalty: Tensor | None = None,
    shape: Callable[[PlacedScores, slice], PlacedScores] | None = None,
) -> RowSummary:
    """Read the batch once, block by block; both masks are bool; `shape` (see shaping.py) is applied to each block."""
    parts = []
    for block in row_blocks(scores):
        placed = place_scores(scores[block], mask[block], score_mask[block] if score_mask is not None else None)
        if shape is not None:
            placed = shape(placed, block)
        kept = placed.scores
        # Not sum(dtype=torch.float64), which copies the whole block first.
        total = kept.sum(-1).double()
        early_peak = kept.abs().scatter_(-1, placed.last, 0.0).amax(-1)
        peak = torch.maximum(early_peak, kept.gather(-1, placed.last).squeeze(-1).abs())
        early = early_peak != 0
        marked = _read_marks(placed, total, early)
        penalty = torch.zeros_like(total)
        if kl_penalty is not None:
            penalty = torch.where(mask[block], kl_penalty[block].to(kept.dtype), 0.0).sum(-1).double()
        finite = total.isfinite() & penalty.isfinite()
        total, penalty = (torch.where(finite, value, 0.0) for value in (total, penalty))
        columns = {
            "tokens": placed.tokens,
            "total": total,
            "early_score": early,
            "moved_scores": placed.moved,
            "unplaced_score": placed.unplaced,
            "as_given": torch.full_like(early, placed.as_given),
            "max_abs_score": peak,
            "kl_penalty": penalty,
            "finite": finite,
        }
        parts.append(columns | marked)
    return RowSummary(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})


def _read_marks(placed: PlacedScores, total: Tensor, early: Tensor) -> dict[str, Tensor]:
    """Return the columns of a summary that depend on the tokens that carry a score."""
    scores, marks = placed.scores, placed.score_mask
    if marks is None:
        outcome = torch.ones_like(early)
        steps, unmarked, low, high = outcome.double(), early, total, total
    else:
        steps = marks.sum(-1).double()
        outcome = (steps <= 1) & marks.gather(-1, placed.last).squeeze(-1)
        unmarked = ((scores != 0) & ~marks).any(-1)
        low = torch.where(marks, scores, torch.inf).amin(-1).double()
        high = torch.where(marks, scores, -torch.inf).amax(-1).double()
    return {
        "scored_tokens": steps,
        "outcome": outcome,
        "unmarked_score": unmarked,
        "min_score": low,
        "max_score": high,
    }


def session_weights(session_index: Tensor | None, usable: Tensor) -> Tensor:
    """Return the weight 1 / (usable rows of its session) for each usable row, 0 for others: a session counts once."""
    weight = usable.double()
    if session_index is None:
        return weight
    return weight / _group_sum(session_index, weight).clamp(min=1)


def token_weights(session_index: Tensor | None, usable: Tensor, tokens: Tensor) -> Tensor:
    """Return the weight 1 / (usable tokens of its session) for the tokens of each row; for `population: sample`."""
    counted = torch.where(usable, tokens, 0.0)
    in_session = counted if session_index is None else _group_sum(session_index, counted)
    return torch.where(usable, 1.0 / in_session.clamp(min=1), 0.0)


def group_baseline(total: Tensor, steps: Tensor, group_index: Tensor, *, weight: Tensor) -> Tensor:
    """Return the mean score of each row's group (B,) (Eq. 6), own score included.

    With process rewards it is the mean over all step scores of the group, as in DeepSeekMath's process supervision
    (arXiv 2402.03300, section 4.1.3); with one score per row, the mean over its sessions.
    """
    return _group_sum(group_index, weight * total) / _group_sum(group_index, weight * steps).clamp(min=1)


def leave_one_out_mean(total: Tensor, group_index: Tensor, session_index: Tensor | None, *, weight: Tensor) -> Tensor:
    """Return the mean score over the other sessions of each row's group (B,); a session scores the mean of its rows."""
    own = weight * total if session_index is None else _group_sum(session_index, weight * total)
    others = _group_sum(group_index, weight) - 1
    return (_group_sum(group_index, weight * total) - own) / others.clamp(min=1)


def rows_without_group_peers(group_index: Tensor, *, weight: Tensor) -> Tensor:
    """Return True for rows (B,) whose group has fewer than two usable sessions."""
    return _group_sum(group_index, weight) < 1.5


def rows_without_signal(group_index: Tensor, low: Tensor, high: Tensor, *, usable: Tensor) -> Tensor:
    """Return True for rows (B,) of groups in which `low` and `high` (B,) of all usable rows are one value."""
    lowest = _group_reduce(group_index, torch.where(usable, low, torch.inf), "amin")
    highest = _group_reduce(group_index, torch.where(usable, high, -torch.inf), "amax")
    return lowest >= highest


def best_of_group(total: Tensor, group_index: Tensor, session_index: Tensor | None, *, usable: Tensor) -> Tensor:
    """Return 1 for the rows of each group's best session, 1/m if m sessions tie, 0 for the others (B,).

    A session's score is that of its rows, which verl makes equal; if they differ, the highest.
    """
    weight = session_weights(session_index, usable)
    score = torch.where(usable, total, -torch.inf)
    if session_index is not None:
        score = _group_reduce(session_index, score, "amax")
    winner = usable & (score == _group_reduce(group_index, score, "amax"))
    return torch.where(winner, 1.0 / _group_sum(group_index, weight * winner).clamp(min=1), 0.0)


def _group_sum(index: Tensor, values: Tensor) -> Tensor:
    """Sum values (B,) over rows of equal index, and return the sum for each of these rows."""
    _, group = torch.unique(index, return_inverse=True)
    return torch.zeros_like(values).index_add(0, group, values)[group]


def _group_reduce(index: Tensor, values: Tensor, how: str) -> Tensor:
    """Reduce values (B,) by `amin` or `amax` over rows of equal index, and return the result for each of these rows."""
    _, group = torch.unique(index, return_inverse=True)
    reduced = torch.zeros_like(values).scatter_reduce(0, group, values, how, include_self=False)
    return reduced[group]


def group_shares(group_index: Tensor, *, weight: Tensor) -> Tensor:
    """Return each row's share of its group (B,): they sum to 1 over a group with a usable row."""
    return weight / _group_sum(group_index, weight).clamp(min=1e-300)
