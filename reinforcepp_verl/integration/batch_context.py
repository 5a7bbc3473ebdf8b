"""The batch data that our trainer has but verl does not pass to an estimator, available during one call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reinforcepp_verl.algorithm.moments import Memory


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
    greedy_score: Tensor | None = None
    """(B,), score of the greedy answer to the row's prompt, NaN if there is none; None: none was sampled."""
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
