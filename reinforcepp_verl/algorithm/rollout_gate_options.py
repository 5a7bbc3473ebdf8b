"""The node `algorithm.rollout_gate`."""

from __future__ import annotations

import math
from dataclasses import dataclass

GATE_NODE = "algorithm.rollout_gate"
OFF = "none"
DIVERGENCES = ("binary_kl", "total_variation")
LEVELS = ("token", "answer")


@dataclass
class RolloutGateOptions:
    """The node `algorithm.rollout_gate`: tokens on which the rollout engine and the trainer differ too much get no
    gradient. They stay in the denominators of the loss."""

    divergence: str = "none"
    """Between the probabilities that engine and trainer give a sampled token: `binary_kl` or `total_variation`
    (OpenRLHF 0.11.2: `is_correction_gating`); `none`: no gate."""

    level: str = "answer"
    """What is dropped: a `token`, or an `answer`, by the mean over its tokens."""

    limit: float = 0.003
    """Largest divergence that is trained on."""

    def __post_init__(self) -> None:
        for name, valid in {"divergence": (OFF, *DIVERGENCES), "level": LEVELS}.items():
            if (given := vars(self)[name]) not in valid:
                raise ValueError(f"{GATE_NODE}.{name} is {given!r}: it must be one of {', '.join(valid)}")
        if not (math.isfinite(self.limit) and self.limit >= 0):
            raise ValueError(f"{GATE_NODE}.limit is {self.limit}: it must be finite and 0 or more")
