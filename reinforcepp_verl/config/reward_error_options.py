"""The node `reward_errors`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reinforcepp_verl.config import keys


@dataclass
class RewardErrorOptions:
    """The node `reward_errors`: answers that the reward function could not score."""

    score: float = 0.0
    """Their score. -1 makes them wrong answers on the scale `plus_minus_one`; NaN, with
    `algorithm.reinforcepp.nonfinite=drop`, takes them out of the training."""
    max_rate: float = 0.1
    """Share of a batch's answers, in training and in validation, above which the run stops; 1 for never."""
    min_count: int = 5
    """The run stops once batches above `max_rate`, one after the other, have this many errors together: one error in a
    batch of four answers is no reason to."""

    def __post_init__(self) -> None:
        if math.isinf(self.score):
            raise ValueError(f"{keys.REWARD_ERRORS}.score is {self.score}: it must be a finite number, or nan")
        if not 0 <= self.max_rate <= 1:
            raise ValueError(
                f"{keys.REWARD_ERRORS}.max_rate is {self.max_rate}: it must be from 0 to 1, where 1 never stops"
            )
        if self.min_count < 1:
            raise ValueError(f"{keys.REWARD_ERRORS}.min_count is {self.min_count}: it must be 1 or more")
