"""The node `reward_errors`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reinforcepp_verl.config import keys

OUR_REWARD_MANAGER = "reinforcepp"
"""The reward manager that reads these options."""


@dataclass
class RewardErrorOptions:
    """The node `reward_errors`: answers that the reward function could not score."""

    score: float = 0.0
    """Their score. -1 makes them wrong answers with `score_scale=plus_minus_one`; NaN, with
    `algorithm.reinforcepp.nonfinite=drop`, removes them from training."""
    max_rate: float = 0.1
    """Share of errors in a training or validation batch above which the run stops; 1 for never."""
    min_count: int = 5
    """The run stops only if consecutive batches above `max_rate` have at least this many errors together: one error in
    a batch of four answers is not enough."""

    def __post_init__(self) -> None:
        if math.isinf(self.score):
            raise ValueError(f"{keys.REWARD_ERRORS}.score is {self.score}: it must be a finite number, or nan")
        if not 0 <= self.max_rate <= 1:
            raise ValueError(
                f"{keys.REWARD_ERRORS}.max_rate is {self.max_rate}: it must be from 0 to 1, where 1 never stops"
            )
        if self.min_count < 1:
            raise ValueError(f"{keys.REWARD_ERRORS}.min_count is {self.min_count}: it must be 1 or more")
