"""The inputs of an estimator, read once, with the weights and shaped scores derived from them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reinforcepp_verl.algorithm import samples
from reinforcepp_verl.algorithm.moments import Memory
from reinforcepp_verl.algorithm.options import OPTIONS_NODE, ReinforceppOptions
from reinforcepp_verl.algorithm.samples import RowSummary
from reinforcepp_verl.algorithm.shaping import Shaping, clip_from_options, score_shaping


class NonFiniteRewardError(ValueError):
    """A score or a KL penalty on a valid token is NaN or infinite, and `nonfinite` is `raise`."""


class ScorePlacementError(ValueError):
    """A score is on a token that cannot carry it, or that `score_mask` does not mark."""


@dataclass(frozen=True)
class RewardBatch:
    """The inputs of an estimator, which it does not modify."""

    token_level_scores: Tensor
    """(B, T), scores of the reward function: an outcome on the last token, or a score at the end of each step."""
    response_mask: Tensor
    """(B, T), nonzero on the tokens that the policy sampled."""
    kl_penalty: Tensor | None = None
    """(B, T), penalty per token for the KL to the reference, beta included; None if it is not part of the reward."""
    group_index: Tensor | None = None
    """(B,) integers, equal for answers to the same prompt; None: each row is its own group."""
    session_index: Tensor | None = None
    """(B,) integers, equal for rows of one agent session; None: each row is its own session."""
    score_mask: Tensor | None = None
    """(B, T), nonzero on the tokens that carry a score, 0 included. A row without such a token has an outcome score,
    which its last valid token carries; None: all rows do."""
    greedy_score: Tensor | None = None
    """(B,), score of the greedy answer to the row's prompt, NaN if there is none; None: no greedy answers were
    sampled."""


@dataclass
class PreparedBatch:
    """A batch with all row statistics that an estimator needs."""

    batch: RewardBatch
    options: ReinforceppOptions
    memory: Memory
    mask: Tensor
    """(B, T) bool"""
    score_mask: Tensor | None
    """(B, T) bool"""
    group_index: Tensor
    rows: RowSummary
    """The raw scores."""
    shaped: RowSummary
    """The scores after z-score, scale and clip."""
    shaping: Shaping
    weight: Tensor
    """(B,), summing to 1 over the usable rows of a session."""

    @property
    def usable(self) -> Tensor:
        """(B,), True for usable rows; all others are ignored."""
        return self.rows.usable

    def zero_signal_rows(self, group_index: Tensor, bounds: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Return True for the rows (B,) that `zero_signal: pin` excludes.

        `group_index` defines the groups and `bounds` (each (B,)) the range of a row's scores; None: its smallest and
        largest score, which is what matters once a group mean is subtracted.
        """
        if self.options.zero_signal == "keep":
            return torch.zeros_like(self.usable)
        low, high = bounds or (self.shaped.min_score, self.shaped.max_score)
        return samples.rows_without_signal(group_index, low, high, usable=self.usable)


def prepare(
    batch: RewardBatch,
    options: ReinforceppOptions,
    memory: Memory | None,
    *,
    clip: bool = True,
    group_mean: bool = False,
) -> PreparedBatch:
    """Read, screen and shape the scores; `clip=False` leaves `reward_clip` to the caller, after its baseline.

    `group_mean=True`: the caller subtracts a group mean, so the z-score does not subtract the mean.

    Raises:
        NonFiniteRewardError: see `nonfinite`
        ScorePlacementError: a score has no place, or a group mean of step scores has no `score_mask`
        ValueError: an option needs a memory, but there is none; or `reward_scale` makes a score infinite
    """
    if memory is None and options.needs_memory:
        raise ValueError(
            f"{OPTIONS_NODE}: statistics=running, reward_norm=running and baseline=moving_average need state that "
            "outlives the batch, which verl's own trainers do not save; train with `reinforcepp train`"
        )
    memory = memory if memory is not None else Memory()
    scores, mask = batch.token_level_scores, batch.response_mask.bool()
    score_mask = batch.score_mask.bool() if batch.score_mask is not None else None
    rows = samples.summarize(scores, mask, score_mask, kl_penalty=batch.kl_penalty)
    _check_finite(rows, options)
    _check_placement(rows, marks_matter=group_mean or score_mask is not None)
    weight = samples.session_weights(batch.session_index, rows.usable)
    shaping = score_shaping(rows, options, weight=weight, memory=memory, center=not group_mean)
    if clip and _clip_binds(rows, shaping, options):
        shaping.clip = clip_from_options(options, rows)
    shaped = rows
    if not shaping.is_identity:
        shaped = samples.summarize(scores, mask, score_mask, kl_penalty=batch.kl_penalty, shape=shaping)
    if (rows.finite & ~shaped.finite).any():
        raise ValueError(
            f"{OPTIONS_NODE}.reward_scale is {options.reward_scale}: it makes a finite score infinite; lower it"
        )
    group_index = batch.group_index
    if group_index is None:
        group_index = torch.arange(len(scores), device=scores.device)
    return PreparedBatch(batch, options, memory, mask, score_mask, group_index, rows, shaped, shaping, weight)


def _check_finite(rows: RowSummary, options: ReinforceppOptions) -> None:
    if options.nonfinite == "raise" and not rows.finite.all():
        bad = (~rows.finite).nonzero().flatten().tolist()
        raise NonFiniteRewardError(
            f"{len(bad)} of {len(rows.finite)} rows have a NaN or infinite score or log-probability, the first of them "
            f"row {bad[0]}: look at the reward function, or drop such rows with {OPTIONS_NODE}.nonfinite=drop"
        )


def _check_placement(rows: RowSummary, *, marks_matter: bool) -> None:
    if (bad := (rows.unplaced_score & rows.usable).nonzero()).numel():
        raise ScorePlacementError(
            f"row {bad[0].item()} has a score before its first valid token, one of {len(bad)} such rows: no token of "
            "the policy earned it; put it on a later token"
        )
    if marks_matter and (bad := (rows.unmarked_score & rows.usable).nonzero()).numel():
        raise ScorePlacementError(
            f"row {bad[0].item()} has a score that score_mask does not mark, one of {len(bad)} such rows: mark every "
            "token that carries a score; without marks only the last valid token does (docs/rewards.md)"
        )


def _clip_binds(rows: RowSummary, shaping: Shaping, options: ReinforceppOptions) -> bool:
    """Return False if no score can reach the clip, so that clipping can be skipped."""
    if options.reward_clip is None or not rows.finite.any():
        return False
    low, high = options.reward_clip
    largest = rows.max_abs_score[rows.finite].max() * shaping.scale + abs(shaping.shift)
    return bool(largest > min(-low, high))
