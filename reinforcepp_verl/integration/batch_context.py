"""The batch data that our trainer has but verl does not pass to an estimator, available during one call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reinforcepp_verl.algorithm.batch import NonFiniteRewardError
from reinforcepp_verl.algorithm.metrics import METRIC_PREFIX
from reinforcepp_verl.algorithm.moments import Memory

MIN_KL = 1e-3


@dataclass
class BatchContext:
    """Data of the current batch in addition to rewards and mask."""

    scores: Tensor
    """(B, T), rewards before the KL penalty."""
    session_index: Tensor
    """(B,), equal for rows of one agent session."""
    memory: Memory
    score_mask: Tensor | None = None
    """(B, T), nonzero on the tokens that carry a score; None: the last valid token of each row does."""
    sampled: Tensor | None = None
    """(B, T), the response mask before rollout correction; None: it rejects nothing."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Filled by the estimator."""


_current: ContextVar[BatchContext | None] = ContextVar("reinforcepp_batch_context", default=None)


def current_context() -> BatchContext | None:
    """Return the context of the current batch; None under a trainer that is not ours."""
    return _current.get()


@contextmanager
def use_context(context: BatchContext) -> Iterator[BatchContext]:
    """Make `context` the current one."""
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)


def session_index(row_keys: Sequence[str]) -> Tensor:
    """Number the sessions (B,) behind verl's row keys, `{uid}_{session}_{row of the session}`."""
    sessions = [key.rsplit("_", 1)[0] for key in row_keys]
    return torch.from_numpy(np.unique(sessions, return_inverse=True)[1])


def non_finite_rows(rows: Mapping[str, Tensor]) -> Tensor:
    """Return True for the rows (B,) with a NaN or infinite score or log-probability where it matters.

    That is on a valid token, and for a score also after the last one and on a token that `score_mask` marks.

    Raises:
        NonFiniteRewardError: the policy itself gives such a log-probability; its update would be NaN too
    """
    valid = rows["response_mask"].bool()
    trailing = valid.flip(-1).cumsum(-1).flip(-1) == 0
    marked = rows["score_mask"].bool() if "score_mask" in rows else torch.zeros_like(valid)
    bad = torch.zeros(len(valid), dtype=torch.bool)
    for name, values in rows.items():
        if name not in ("response_mask", "score_mask"):
            counts = valid | trailing | marked if name == "rm_scores" else valid
            found = (~values.isfinite() & counts).any(-1) & valid.any(-1)
            if name == "old_log_probs" and found.any():
                raise NonFiniteRewardError(
                    f"the policy gives {int(found.sum())} of {len(found)} answers a NaN or infinite log-probability: "
                    "the model is broken; resume the run with a lower learning rate"
                )
            bad |= found
    return bad


class PaddingAwareKL:
    """verl's KL controller, fed with the mean over real rows: verl counts padding rows, whose KL is 0, as answers."""

    def __init__(self, controller: Any) -> None:
        self.controller = controller
        self.real_rows = 0

    @property
    def value(self) -> float:
        """The coefficient of the KL penalty."""
        return self.controller.value

    @value.setter
    def value(self, coefficient: float) -> None:
        self.controller.value = coefficient

    def update(self, current_kl: float, n_steps: int) -> None:
        """Update with a mean over `n_steps` rows, of which `real_rows` are answers."""
        if self.real_rows:
            self.controller.update(current_kl=current_kl * n_steps / self.real_rows, n_steps=self.real_rows)


def response_metrics(rows: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the metrics that need lengths and log-probabilities; rows without a valid token do not count.

    A right answer is one with a score above 0. `kl` is the mean of log pi_old - log pi_ref over valid tokens, and
    `reward_per_kl` the mean score over the KL of a whole answer, omitted while that KL is below MIN_KL.
    """
    valid = rows["response_mask"].bool()
    length = valid.sum(-1)
    real = length > 0
    score = rows["rm_scores"].sum(-1)
    found = {}
    for name, chosen in (("right", real & (score > 0)), ("wrong", real & (score <= 0))):
        if chosen.any():
            found[f"length_{name}"] = length[chosen].float().mean().item()
    if "ref_log_prob" in rows and real.any():
        kl = torch.where(valid, rows["old_log_probs"] - rows["ref_log_prob"], 0.0)
        found["kl"] = (kl.sum() / length.sum()).item()
        per_answer = (kl.sum() / real.sum()).item()
        if per_answer > MIN_KL:
            found["reward_per_kl"] = score[real].mean().item() / per_answer
    return {f"{METRIC_PREFIX}/{name}": value for name, value in found.items()}
