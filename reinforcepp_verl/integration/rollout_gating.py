"""Applies the trust region between rollout engine and trainer to the weights that verl multiplies the loss with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import transfer_queue as tq
from tensordict import TensorDict

from reinforcepp_verl.algorithm.rollout_gate import divergence, kept_tokens
from reinforcepp_verl.algorithm.rollout_gate_options import OFF, RolloutGateOptions
from reinforcepp_verl.integration.row_totals import OLD_LOG_PROBS, RESPONSE_MASK, ROLLOUT_LOG_PROBS, jagged

if TYPE_CHECKING:
    from transfer_queue import KVBatchMeta

WEIGHTS = "rollout_is_weights"
FIELDS = (RESPONSE_MASK, OLD_LOG_PROBS, ROLLOUT_LOG_PROBS)


def gate_weights(batch: KVBatchMeta, options: RolloutGateOptions, *, has_weights: bool) -> dict[str, float]:
    """Set the weights of dropped tokens to 0; the others keep verl's importance weight, or 1 if it computes none.

    Returns metrics: the mean divergence over valid tokens, and the share of tokens dropped.
    """
    if options.divergence == OFF:
        return {}
    names = [*FIELDS, WEIGHTS] if has_weights else list(FIELDS)
    columns = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=names)
    mask, offsets = columns[RESPONSE_MASK].values() != 0, columns[RESPONSE_MASK].offsets()
    distance = divergence(
        options.divergence,
        old_log_prob=columns[OLD_LOG_PROBS].values(),
        rollout_log_prob=columns[ROLLOUT_LOG_PROBS].values(),
    )
    kept = kept_tokens(distance, mask, offsets, level=options.level, limit=options.limit)
    weights = columns[WEIGHTS].values() if has_weights else torch.ones_like(distance)
    gated = jagged(torch.where(kept, weights, 0.0), offsets)
    fields = TensorDict({WEIGHTS: gated}, batch_size=len(batch))
    tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=fields)
    tokens = mask.sum().clamp(min=1)
    return {
        "reinforcepp/rollout_divergence": (torch.where(mask, distance, 0.0).double().sum() / tokens).item(),
        "reinforcepp/gated_tokens": ((mask & ~kept).sum() / tokens).item(),
    }
