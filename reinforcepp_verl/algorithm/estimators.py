"""The advantage estimators: REINFORCE++ (arXiv 2501.03262v9), its baseline variant, and related estimators.

All are zero on masked tokens, return at least fp32, compute statistics in float64 and leave their inputs unchanged.
All raise NonFiniteRewardError on a NaN or infinite score or KL penalty, unless `nonfinite` is `drop`.
"""

from __future__ import annotations

import torch

from reinforcepp_verl.algorithm import samples
from reinforcepp_verl.algorithm.batch import PreparedBatch, RewardBatch, prepare
from reinforcepp_verl.algorithm.moments import Memory, Moments
from reinforcepp_verl.algorithm.normalize import (
    Estimate,
    Returns,
    centered_advantages,
    normalized_advantages,
    rewards_to_go,
)
from reinforcepp_verl.algorithm.one_thread import one_thread
from reinforcepp_verl.algorithm.options import ReinforceppOptions
from reinforcepp_verl.algorithm.shaping import Shaping, clip_from_options


@one_thread
def reinforcepp(
    batch: RewardBatch, options: ReinforceppOptions, *, gamma: float = 1.0, memory: Memory | None = None
) -> Estimate:
    """Compute REINFORCE++: reward-to-go of score and KL, normalized over the batch (Eq. 4 and 5)."""
    prepared = prepare(batch, options, memory)
    returns = rewards_to_go(prepared, prepared.shaping, gamma=gamma)
    return normalized_advantages(prepared, returns, excluded=_zero_signal_batch(prepared))


@one_thread
def reinforcepp_baseline(batch: RewardBatch, options: ReinforceppOptions, *, memory: Memory | None = None) -> Estimate:
    """Compute REINFORCE++-baseline: score minus the group's mean, normalized over the batch (Eq. 6 and 7).

    A group with fewer than two usable sessions gets 0 and is excluded from the statistics. With process rewards
    (`score_mask`) each step score is centered by the mean of the group's step scores, and a token gets the sum of the
    centered scores from it to the end; with a KL penalty in the reward, minus the penalties from it to the end.
    """
    clip_after = options.reward_clip_at == "after_baseline"
    prepared = prepare(batch, options, memory, clip=not clip_after, group_mean=True)
    rows, weight, group_index = prepared.shaped, prepared.weight, prepared.group_index
    mean_score = samples.group_baseline(rows.total, rows.scored_tokens, group_index, weight=weight)
    excluded = prepared.zero_signal_rows(group_index) | samples.rows_without_group_peers(group_index, weight=weight)
    clip = clip_from_options(options, rows) if clip_after else prepared.shaping.clip
    if rows.outcome.all() and batch.kl_penalty is None:
        score = torch.where(prepared.usable & ~excluded, rows.total - mean_score, 0.0)
        returns = Returns.from_rows(clip(score) if clip_after and clip is not None else score)
    else:
        centering = Shaping(step_shift=-mean_score, clip=clip if clip_after else None)
        returns = rewards_to_go(prepared, prepared.shaping, centering, gamma=1.0)
    prepared.shaping.clip = clip
    return normalized_advantages(prepared, returns, excluded=excluded)


@one_thread
def reinforce(batch: RewardBatch, options: ReinforceppOptions, *, memory: Memory | None = None) -> Estimate:
    """Compute classic REINFORCE with the answer as one action: `R - b` on every token, `R = score - KL penalties`.

    `options.baseline` selects b, a mean over sessions that includes the own one (arXiv 2402.14740, Eq. 6-8). It does
    not divide by a standard deviation.
    """
    prepared = prepare(batch, options, memory)
    total = prepared.shaped.total - prepared.rows.kl_penalty
    center = _baseline(prepared, Moments.from_values(total, prepared.weight))
    score = prepared.shaped.total
    excluded = prepared.zero_signal_rows(torch.zeros_like(prepared.group_index), (score, score))
    return centered_advantages(prepared, Returns.from_rows(total), center=center, excluded=excluded)


@one_thread
def reinforce_reward_to_go(
    batch: RewardBatch, options: ReinforceppOptions, *, gamma: float = 1.0, memory: Memory | None = None
) -> Estimate:
    """Compute the vanilla policy gradient with each token as an action: `G_t - b`, b a mean over tokens."""
    prepared = prepare(batch, options, memory)
    returns = rewards_to_go(prepared, prepared.shaping, gamma=gamma)
    weight = prepared.usable.double()
    moments = Moments.from_rows(prepared.rows.tokens, returns.mean, returns.squared_deviations, weight)
    center = _baseline(prepared, moments)
    return centered_advantages(prepared, returns, center=center, excluded=_zero_signal_batch(prepared))


@one_thread
def leave_one_out(batch: RewardBatch, options: ReinforceppOptions, *, memory: Memory | None = None) -> Estimate:
    """Compute RLOO (arXiv 2402.14740, Eq. 9): `R` minus the mean `R` of the group's other answers, on every token.

    `R = score - KL penalties`, in the baseline too (verl's own `rloo` has it in both as well; OpenRLHF subtracts each
    token's KL after the baseline). A group with fewer than two usable sessions gets 0 (verl's keeps `R`).
    """
    prepared = prepare(batch, options, memory)
    weight, group_index, score = prepared.weight, prepared.group_index, prepared.shaped.total
    total = score - prepared.rows.kl_penalty
    baseline = samples.leave_one_out_mean(total, group_index, batch.session_index, weight=weight)
    excluded = prepared.zero_signal_rows(group_index, (score, score))
    excluded |= samples.rows_without_group_peers(group_index, weight=weight)
    return centered_advantages(prepared, Returns.from_rows(total - baseline), center=0.0, excluded=excluded)


@one_thread
def greedy_baseline(batch: RewardBatch, options: ReinforceppOptions, *, memory: Memory | None = None) -> Estimate:
    """Compute ReMax (arXiv 2310.10505, Alg. 2): reward-to-go of score and KL, minus the score of the greedy answer.

    The greedy answer's KL is not subtracted, as in the authors' code and in verl. Rows without a greedy answer get 0.

    Raises:
        ValueError: no greedy answers were sampled
    """
    if batch.greedy_score is None:
        raise ValueError(
            "the batch has no greedy answers, which the estimator greedy_baseline compares with: set +method=remax, "
            "and train with `reinforcepp train`"
        )
    prepared = prepare(batch, options, memory, clip=False)
    known = ~batch.greedy_score.isnan()
    baseline = Shaping(answer_shift=-torch.where(known, batch.greedy_score, 0.0))
    returns = rewards_to_go(prepared, baseline, gamma=1.0)
    return centered_advantages(prepared, returns, center=0.0, excluded=~known)


@one_thread
def raft(batch: RewardBatch, options: ReinforceppOptions, *, memory: Memory | None = None) -> Estimate:
    """Compute reward-ranked fine-tuning (arXiv 2304.06767): 1 on the tokens of each group's best answer, 0 elsewhere.

    When m sessions tie for the best, each gets 1/m, so that every group has the same weight. A group with fewer than
    two usable sessions gets 0. If all scores of a group are equal, all tie; `zero_signal: pin` excludes the group.
    """
    prepared = prepare(batch, options, memory, clip=False)
    # The raw scores: a clip, or the rounding of a z-score, would create or break ties.
    group_index, weight, score = prepared.group_index, prepared.weight, prepared.rows.total
    total = score - prepared.rows.kl_penalty
    excluded = prepared.zero_signal_rows(group_index, (score, score))
    excluded |= samples.rows_without_group_peers(group_index, weight=weight)
    share = samples.best_of_group(total, group_index, batch.session_index, usable=prepared.usable)
    return centered_advantages(prepared, Returns.from_rows(share), center=0.0, excluded=excluded)


def _zero_signal_batch(prepared: PreparedBatch) -> torch.Tensor:
    """Return the rows (B,) that `zero_signal: pin` excludes if the batch is one group: all or none.

    Scores before the last token carry signal even if their totals are equal, because they are on different tokens.
    """
    score, outcome = prepared.shaped.total, ~prepared.shaped.early_score
    low, high = torch.where(outcome, score, -torch.inf), torch.where(outcome, score, torch.inf)
    return prepared.zero_signal_rows(torch.zeros_like(prepared.group_index), (low, high))


def _baseline(prepared: PreparedBatch, moments: Moments) -> float:
    if prepared.options.baseline == "none":
        return 0.0
    if prepared.options.baseline == "moving_average":
        prepared.memory.returns = moments = prepared.memory.returns.merge(moments)
    return moments.mean
