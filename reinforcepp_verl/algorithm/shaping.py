"""Shaping of the scores before they become returns: z-score, scale, clip, and group baseline."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reinforcepp_verl.algorithm.moments import Memory, Moments
from reinforcepp_verl.algorithm.options import ReinforceppOptions
from reinforcepp_verl.algorithm.placement import PlacedScores
from reinforcepp_verl.algorithm.samples import RowSummary


@dataclass
class Clip:
    """Bounds on scores; records which rows were changed."""

    low: float
    high: float
    clipped_rows: Tensor
    """(B,) bool"""

    def __call__(self, scores: Tensor, block: slice = slice(None)) -> Tensor:
        """Clip scores (b, ...) of the rows `block`."""
        clipped = scores.clamp(self.low, self.high)
        changed = clipped != scores
        self.clipped_rows[block] |= changed if changed.dim() == 1 else changed.any(-1)
        return clipped


@dataclass
class Shaping:
    """A transformation of all scores, applied in the order of the fields."""

    scale: float = 1.0
    shift: float = 0.0
    """Added to the last valid token, that is, once per answer, regardless of the number of step scores."""
    answer_shift: Tensor | None = None
    """(B,), added to the last valid token of each row."""
    step_shift: Tensor | None = None
    """(B,), added to each token that carries a score."""
    clip: Clip | None = None

    @property
    def is_identity(self) -> bool:
        """True if it changes nothing."""
        by_row = (self.answer_shift, self.step_shift, self.clip)
        return self.scale == 1.0 and self.shift == 0.0 and all(part is None for part in by_row)

    def __call__(self, placed: PlacedScores, block: slice) -> PlacedScores:
        """Shape the scores of the rows `block`."""
        shaped = placed.scores * self.scale
        shaped.scatter_add_(-1, placed.last, torch.full_like(placed.last, self.shift, dtype=shaped.dtype))
        if self.answer_shift is not None:
            shaped.scatter_add_(-1, placed.last, self.answer_shift[block].unsqueeze(-1).to(shaped.dtype))
        if self.step_shift is not None:
            shift = self.step_shift[block].unsqueeze(-1).to(shaped.dtype)
            if placed.score_mask is None:
                shaped.scatter_add_(-1, placed.last, shift)
            else:
                shaped = torch.where(placed.score_mask, shaped + shift, shaped)
        if self.clip is not None:
            shaped = self.clip(shaped, block)
        return placed._replace(scores=shaped)


def score_shaping(
    rows: RowSummary, options: ReinforceppOptions, *, weight: Tensor, memory: Memory, center: bool
) -> Shaping:
    """Compute z-score and scale, from the totals of this batch or of the training so far.

    `center=False` only divides: a later group mean would spread the shift of an answer over its steps.
    """
    scale, shift = options.reward_scale, 0.0
    if options.reward_norm != "none":
        moments = Moments.from_values(rows.total, weight)
        if options.reward_norm == "running":
            memory.scores = moments = memory.scores.merge(moments)
        variance = moments.variance(unbiased=options.unbiased_variance)
        # Equal totals have no scale; otherwise their steps would be multiplied by 1 / sqrt(floor).
        deviation = variance**0.5 if variance > options.variance_floor else 1.0
        scale = scale / deviation
        shift = -scale * moments.mean if center else 0.0
    return Shaping(scale=scale, shift=shift)


def clip_from_options(options: ReinforceppOptions, rows: RowSummary) -> Clip | None:
    """Return `reward_clip` as a transformation of scores, None if there is none."""
    if options.reward_clip is None:
        return None
    low, high = options.reward_clip
    return Clip(low, high, torch.zeros_like(rows.finite))
