"""Puts the scores of single tokens into verl's queue, where the reward manager can only send one score per answer.

The reward manager returns them among an answer's extra fields. They replace the answer's score in `rm_scores`, which
all estimators read, and `score_mask`, a column of ours with the same shape, marks their tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
import transfer_queue as tq
from tensordict import TensorDict
from torch import Tensor
from verl.workers.utils.padding import response_to_nested

from reinforcepp_verl.integration.row_totals import RESPONSE_MASK, SCORE_MASK, SCORES
from reinforcepp_verl.rewards.token_scores import TOKEN_SCORES_KEY

if TYPE_CHECKING:
    from transfer_queue import KVBatchMeta


def write_token_scores(batch: KVBatchMeta, extra_fields: list[dict[str, Any]]) -> None:
    """Write `rm_scores` and `score_mask` if the reward function scored tokens; `extra_fields` are those of the rows.

    Raises:
        ValueError: such an answer is one of several rows, or its agent loop has marked tokens too
    """
    found = {
        row: pairs
        for row, (tag, fields) in enumerate(zip(batch.tags, extra_fields, strict=True))
        if not tag.get("is_padding") and (pairs := fields.get("reward_extra_info", {}).get(TOKEN_SCORES_KEY))
    }
    if not found:
        return
    _refuse_later_rows([batch.keys[row] for row in found])
    names = [RESPONSE_MASK, SCORES, SCORE_MASK]
    nested = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=names)
    scores = nested[SCORES].to_padded_tensor(0.0)
    marks = torch.zeros_like(scores, dtype=torch.bool)
    if SCORE_MASK in nested:
        marks = nested[SCORE_MASK].to_padded_tensor(0).bool()
    for row, pairs in found.items():
        if marks[row].any():
            raise ValueError(
                f"answer {batch.keys[row]} has {TOKEN_SCORES_KEY} of the reward function and {SCORE_MASK} of the agent "
                "loop: score tokens in one of them"
            )
        tokens, values = zip(*pairs, strict=True)
        scores[row] = 0.0
        scores[row, list(tokens)] = torch.tensor(values, dtype=scores.dtype)
        marks[row, list(tokens)] = True
    columns = {SCORES: scores, SCORE_MASK: marks}
    fields = {name: response_to_nested(values, nested[RESPONSE_MASK]) for name, values in columns.items()}
    tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=TensorDict(fields, batch_size=len(batch)))


def refuse_other_lengths(batch: KVBatchMeta, columns: Mapping[str, Tensor]) -> None:
    """Refuse jagged columns (B, ragged) with another length than the answer, which an agent loop may write.

    Padding rows are exempt: verl copies columns that it does not know into them, with the length of another row.

    Raises:
        ValueError: it names the first such answer
    """
    wanted = _lengths(columns[RESPONSE_MASK])
    is_real = torch.tensor([not tag.get("is_padding") for tag in batch.tags])
    for name, column in columns.items():
        lengths = _lengths(column)
        if wrong := ((lengths != wanted) & is_real).nonzero().flatten().tolist():
            row = wrong[0]
            raise ValueError(
                f"answer {batch.keys[row]} has {int(wanted[row])} tokens, but {name} has {int(lengths[row])} values: "
                "let the agent loop write one for each token of the response"
            )


def _lengths(column: Tensor) -> Tensor:
    return column.offsets().diff()  # type: ignore[attr-defined]  # of jagged tensors only


def _refuse_later_rows(row_keys: list[str]) -> None:
    """Refuse sessions of several rows: a reward function gets the last, and verl copies its result to all of them."""
    for key in row_keys:
        session, row = key.rsplit("_", 1)
        if row != "0":
            raise ValueError(
                f"session {session} has several rows, and the reward function returned {TOKEN_SCORES_KEY} for the last "
                f"one: return score, or score tokens in the agent loop ({SCORE_MASK})"
            )
