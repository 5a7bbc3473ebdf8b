"""The advantage estimators: REINFORCE++ (arXiv 2501.03262v9), its baseline variant, and the family they grew from.

All are zero on masked tokens, give at least fp32, count their statistics in float64 and leave their inputs unchanged.
All raise NonFiniteRewardError on a NaN or infinite score or KL penalty, unless `nonfinite` is `drop`.
"""

from __future__ import annotations

import torch

from reinforcepp_verl.algorithm import samples
from reinforcepp_verl.algorithm.batch import Reading, RewardBatch, read
from reinforcepp_verl.algorithm.moments import Memory, Moments
from reinforcepp_verl.algorithm.normalise import Estimate, Returns, centred, normalised, rewards_to_go
from reinforcepp_verl.algorithm.options import ReinforceppOptions
from reinforcepp_verl.algorithm.shaping import Shaping, clip_of


def reinforcepp(
    batch: RewardBatch, options: ReinforceppOptions, *, gamma: float = 1.0, memory: Memory | None = None
) -> Estimate:
    """Compute REINFORCE++: reward-to-go of score and KL, normalised over the batch (Eq. 4 and 5)."""
    reading = read(batch, options, memory)
    returns = rewards_to_go(reading, reading.shaping, gamma=gamma)
    return normalised(reading, returns, pinned=_silent_batch(reading))


def reinforcepp_baseline(batch: RewardBatch, options: ReinforceppOptions, *, memory: Memory | None = None) -> Estimate:
    """Compute REINFORCE++-baseline: score minus the group's mean, normalised over the batch (Eq. 6 and 7).

    A group with less than two usable sessions has nothing to compare with: it gets 0 and leaves the statistics. With
    process rewards each step score is centred by the mean of the group's step scores, and a token gets the sum of those
    still to come; with a KL penalty in the reward, minus the penalties still to come.
    """
    clip_after = options.reward_clip_at == "after_baseline"
    reading = read(batch, options, memory, clip=not clip_after, group_mean=True)
    rows, weight, group_index = reading.shaped, reading.weight, reading.group_index
    mean_score = samples.group_baseline(rows.total, rows.steps, group_index, weight=weight)
    pinned = reading.silent(group_index) | samples.rows_without_rival(group_index, weight=weight)
    clip = clip_of(options, rows) if clip_after else reading.shaping.clip
    if rows.outcome_only and batch.kl_penalty is None:
        score = torch.where(reading.usable & ~pinned, rows.total - mean_score, 0.0)
        returns = Returns.of_rows(clip(score) if clip_after and clip is not None else score)
    else:
        centring = Shaping(step_shift=-mean_score, clip=clip if clip_after else None)
        returns = rewards_to_go(reading, reading.shaping, centring, gamma=1.0)
    reading.shaping.clip = clip
    return normalised(reading, returns, pinned=pinned)


def reinforce(batch: RewardBatch, options: ReinforceppOptions, *, memory: Memory | None = None) -> Estimate:
    """Compute the classic REINFORCE, the answer as one action: `R - b` on every token, `R = score - KL penalties`.

    `options.baseline` names b, a mean over sessions with the own one included (arXiv 2402.14740, Eq. 6-8). Nothing is
    divided by a standard deviation.
    """
    reading = read(batch, options, memory)
    total = reading.shaped.total - reading.rows.kl_penalty
    centre = _baseline(reading, Moments.of_values(total, reading.weight))
    score = reading.shaped.total
    pinned = reading.silent(torch.zeros_like(reading.group_index), (score, score))
    return centred(reading, Returns.of_rows(total), centre=centre, pinned=pinned)


def reinforce_reward_to_go(
    batch: RewardBatch, options: ReinforceppOptions, *, gamma: float = 1.0, memory: Memory | None = None
) -> Estimate:
    """Compute the vanilla policy gradient, the token as the action: `G_t - b`, b a mean over tokens."""
    reading = read(batch, options, memory)
    returns = rewards_to_go(reading, reading.shaping, gamma=gamma)
    moments = Moments.of_rows(reading.rows.tokens, returns.mean, returns.deviations, reading.usable.double())
    centre = _baseline(reading, moments)
    return centred(reading, returns, centre=centre, pinned=_silent_batch(reading))


def raft(batch: RewardBatch, options: ReinforceppOptions, *, memory: Memory | None = None) -> Estimate:
    """Compute reward-ranked fine-tuning (arXiv 2304.06767): 1 on the tokens of each group's best answer, 0 elsewhere.

    When m sessions tie for the best, each gets 1/m, so that every group weighs once. A group with less than two usable
    sessions gets 0. A group whose scores are all equal is one big tie: `zero_signal: pin` leaves it out.
    """
    reading = read(batch, options, memory, clip=False)
    # The scores as given: a clip, or the rounding of a z-score, would make or break ties.
    group_index, weight, score = reading.group_index, reading.weight, reading.rows.total
    total = score - reading.rows.kl_penalty
    pinned = reading.silent(group_index, (score, score)) | samples.rows_without_rival(group_index, weight=weight)
    share = samples.best_of_group(total, group_index, batch.session_index, usable=reading.usable)
    return centred(reading, Returns.of_rows(share), centre=0.0, pinned=pinned)


def _silent_batch(reading: Reading) -> torch.Tensor:
    """Return which rows (B,) `zero_signal: pin` takes out where the batch is one group: all, or none.

    Step scores are signal even where their totals are equal: they come at different tokens.
    """
    score, outcome = reading.shaped.total, reading.shaped.steps <= 1
    low, high = torch.where(outcome, score, -torch.inf), torch.where(outcome, score, torch.inf)
    return reading.silent(torch.zeros_like(reading.group_index), (low, high))


def _baseline(reading: Reading, moments: Moments) -> float:
    if reading.options.baseline == "none":
        return 0.0
    if reading.options.baseline == "moving_average":
        reading.memory.returns = moments = reading.memory.returns.merge(moments)
    return moments.mean
