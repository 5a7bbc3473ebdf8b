"""Metrics of a batch for the tracker: inputs and outputs of the estimator."""

from __future__ import annotations

from torch import Tensor

from reinforcepp_verl.algorithm.batch import PreparedBatch
from reinforcepp_verl.algorithm.moments import Moments
from reinforcepp_verl.algorithm.samples import group_shares, rows_without_group_peers, rows_without_signal

METRIC_PREFIX = "reinforcepp"


def batch_metrics(
    prepared: PreparedBatch, mean: Tensor, squared_deviations: Tensor, *, advantage: Tensor, factor: Tensor
) -> dict[str, float]:
    """Return the metrics of one call; `mean`, `squared_deviations`, `advantage` and `factor` (B,) are per row.

    `effective_samples` is `(sum |a|)^2 / (sum a^2)` over answers, as a share of them: 1 if all contribute equally, 1/N
    if a single one does. `zero_signal_groups` is the share of groups with peers whose totals are all equal.
    """
    rows, weight, group_index = prepared.rows, prepared.weight, prepared.group_index
    usable = rows.usable.double()
    raw = Moments.from_rows(rows.tokens, mean, squared_deviations, usable)
    normalized = Moments.from_rows(rows.tokens, advantage, squared_deviations * factor.square(), usable)
    pull, sessions = advantage.abs(), weight.sum().clamp(min=1)
    effective = (weight * pull).sum() ** 2 / (weight * pull.square()).sum().clamp(min=1e-300) / sessions
    peers = group_shares(group_index, weight=weight) * ~rows_without_group_peers(group_index, weight=weight)
    equal = rows_without_signal(group_index, rows.total, rows.total, usable=rows.usable)
    zero_signal = (peers * equal).sum() / peers.sum().clamp(min=1)
    clip = prepared.shaping.clip
    clipped = (weight * clip.clipped_rows).sum() / sessions if clip is not None else weight.new_zeros(())
    named = {
        "raw_advantage/mean": raw.mean,
        "raw_advantage/std": raw.variance(unbiased=False) ** 0.5,
        "advantage/mean": normalized.mean,
        "advantage/std": normalized.variance(unbiased=False) ** 0.5,
        "zero_signal_groups": zero_signal.item(),
        "clipped_rewards": clipped.item(),
        "moved_scores/sum": rows.moved_scores[rows.usable].sum().item(),
        "dropped_rows/sum": float((~rows.finite).sum()),
        "effective_samples": effective.item(),
    }
    return {f"{METRIC_PREFIX}/{name}": value for name, value in named.items()}
