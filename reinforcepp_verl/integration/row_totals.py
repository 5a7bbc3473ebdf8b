"""What each row of a batch sums up to, read from verl's ragged columns in blocks: padding all of them costs memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from reinforcepp_verl.algorithm.batch import NonFiniteRewardError
from reinforcepp_verl.algorithm.metrics import METRIC_PREFIX
from reinforcepp_verl.algorithm.one_thread import one_thread
from reinforcepp_verl.algorithm.returns import as_float

RESPONSE_MASK, SCORES = "response_mask", "rm_scores"
OLD_LOG_PROBS, REF_LOG_PROB, ROLLOUT_LOG_PROBS = "old_log_probs", "ref_log_prob", "rollout_log_probs"
SCORE_MASK = "score_mask"
"""Column of ours, True on the tokens that carry a score; an agent loop may write it too."""
COLUMNS = (RESPONSE_MASK, SCORES, OLD_LOG_PROBS, REF_LOG_PROB, ROLLOUT_LOG_PROBS, SCORE_MASK)
BLOCK_TOKENS = 2**18
MIN_KL = 1e-3


@dataclass
class RowTotals:
    """Numbers per row, each (B,)."""

    is_broken: Tensor
    """True if the policy gives a valid token a NaN or infinite log-probability."""
    is_non_finite: Tensor
    """True if a score or log-probability is NaN or infinite where it matters."""
    length: Tensor
    """Number of valid tokens."""
    score: Tensor
    """Sum of the scores, float64."""
    kl: Tensor
    """Sum of log pi_old - log pi_ref over the valid tokens, float64; NaN without a reference policy."""


@one_thread
def row_totals(columns: Mapping[str, Tensor]) -> RowTotals:
    """Sum up the rows of jagged columns (B, ragged), all of the same lengths.

    Raises:
        NonFiniteRewardError: the policy itself gives such a log-probability; its update would be NaN too
    """
    blocks = [_totals(values, offsets) for values, offsets in _blocks(columns)]
    totals = RowTotals(*map(torch.cat, zip(*(vars(block).values() for block in blocks), strict=True)))
    if totals.is_broken.any():
        raise NonFiniteRewardError(
            f"the policy gives {int(totals.is_broken.sum())} of {len(totals.length)} answers a NaN or infinite "
            "log-probability: the model is broken; resume the run with a lower learning rate"
        )
    return totals


def response_metrics(totals: RowTotals) -> dict[str, float]:
    """Return the metrics that need lengths and log-probabilities; rows without a valid token do not count.

    A right answer is one with a score above 0. `kl` is the mean of log pi_old - log pi_ref over valid tokens, and
    `reward_per_kl` the mean score over the KL of a whole answer, omitted while that KL is below MIN_KL.
    """
    real = (totals.length > 0) & ~totals.is_non_finite
    length, score, kl = totals.length[real], totals.score[real], totals.kl[real]
    found = {}
    for name, chosen in (("right", score > 0), ("wrong", score <= 0)):
        if chosen.any():
            found[f"length_{name}"] = length[chosen].double().mean().item()
    if len(kl) and not kl.isnan().any():
        found["kl"] = (kl.sum() / length.sum()).item()
        per_answer = kl.mean().item()
        if per_answer > MIN_KL:
            found["reward_per_kl"] = score.mean().item() / per_answer
    return {f"{METRIC_PREFIX}/{name}": value for name, value in found.items()}


def jagged(values: Tensor, offsets: Tensor) -> Tensor:
    """Return rows (B, ragged) that know their longest, without which torch pads them to the length of all together."""
    lengths = offsets.diff()
    return torch.nested.nested_tensor_from_jagged(
        values, offsets, min_seqlen=int(lengths.min()), max_seqlen=int(lengths.max())
    )


def aligned(column: Tensor, mask: Tensor) -> Tensor:
    """Return a jagged column with the rows of `mask`, cut or padded with 0.

    verl's padding rows copy columns that it does not know from a real row, with that row's length.
    """
    wanted = _offsets(mask)
    if torch.equal(_offsets(column), wanted):
        return column
    rows = [
        torch.nn.functional.pad(row[:length], (0, max(0, length - len(row))))
        for row, length in zip(column.unbind(), wanted.diff().tolist(), strict=True)
    ]
    return jagged(torch.cat(rows), wanted)


def without_rows(column: Tensor, rows: Tensor) -> Tensor:
    """Return a jagged column (B, ragged) with 0 in the rows where `rows` (B,) is True."""
    values, offsets = column.values().clone(), _offsets(column)
    values[torch.repeat_interleave(rows, offsets.diff())] = 0
    return jagged(values, offsets)


def _blocks(columns: Mapping[str, Tensor]) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    """Yield the values of some rows at a time, joined, with the offsets of the rows in them."""
    offsets = _offsets(columns[RESPONSE_MASK])
    values = {name: column.values() for name, column in columns.items()}
    ends = offsets.tolist()
    first = 0
    while first < len(ends) - 1:
        last = first + 1
        while last < len(ends) - 1 and ends[last + 1] - ends[first] <= BLOCK_TOKENS:
            last += 1
        part = {name: column[ends[first] : ends[last]] for name, column in values.items()}
        yield part, offsets[first : last + 1] - ends[first]
        first = last


def _offsets(column: Tensor) -> Tensor:
    return column.offsets()  # type: ignore[attr-defined]  # of jagged tensors only


def _totals(values: dict[str, Tensor], offsets: Tensor) -> RowTotals:
    valid = values[RESPONSE_MASK] != 0

    def per_row(numbers: Tensor) -> Tensor:
        return torch.segment_reduce(numbers.double(), "sum", offsets=offsets)

    length = per_row(as_float(valid, torch.float64)).long()
    if REF_LOG_PROB in values:
        kl = per_row(torch.where(valid, values[OLD_LOG_PROBS] - values[REF_LOG_PROB], 0.0))
    else:
        kl = torch.full(length.shape, torch.nan, dtype=torch.float64)
    return RowTotals(*_non_finite(values, valid, offsets), length, per_row(values[SCORES]), kl)


def _non_finite(values: dict[str, Tensor], valid: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Return which rows are broken, and which have a value that is NaN or infinite where it matters.

    That is on a valid token, and for a score also after the last one and on a token that `score_mask` marks.
    """
    rows = len(offsets) - 1
    broken, bad = torch.zeros(rows, dtype=torch.bool), torch.zeros(rows, dtype=torch.bool)
    for name, column in values.items():
        # A sum is one pass, and finite only if all values are.
        if name in (RESPONSE_MASK, SCORE_MASK) or column.sum().isfinite():
            continue
        row_of_token = torch.repeat_interleave(offsets.diff())
        last_valid = torch.full((rows,), -1).scatter_reduce_(0, row_of_token[valid], valid.nonzero()[:, 0], "amax")
        counts = valid
        if name == SCORES:
            after_last = torch.arange(len(valid)) > last_valid[row_of_token]
            counts = valid | after_last | (values.get(SCORE_MASK, torch.zeros(())) != 0)
        bad[row_of_token[~column.isfinite() & counts]] = True
        bad &= last_valid >= 0
        if name == OLD_LOG_PROBS:
            broken[row_of_token[~column.isfinite() & valid]] = True
    return broken, bad
