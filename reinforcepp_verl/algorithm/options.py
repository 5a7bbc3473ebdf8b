"""The choices that the paper leaves open, and the presets `paper`, `openrlhf` and `verl`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace

OPTIONS_NODE = "algorithm.reinforcepp"

CHOICES = {
    "population": ("token", "sample"),
    "reward_clip_at": ("before_baseline", "after_baseline"),
    "reward_norm": ("none", "batch", "running"),
    "zero_signal": ("keep", "pin"),
    "nonfinite": ("raise", "drop"),
    "statistics": ("batch", "running"),
    "baseline": ("none", "batch_mean", "moving_average"),
}


@dataclass
class ReinforceppOptions:
    """The node `algorithm.reinforcepp`. The defaults are the preset `openrlhf`."""

    population: str = "token"
    """Population whose mean and variance normalize the advantages: `token`, every valid token has the same weight
    (OpenRLHF, verl), or `sample`, every answer has, spread over its tokens (paper, App. B.2: "all N samples")."""

    unbiased_variance: bool = False
    """False: population variance (OpenRLHF). True: Bessel-corrected (verl)."""

    variance_floor: float = 1e-8
    """Lower bound of the variance before dividing by its root (OpenRLHF `var.clamp(min=1e-8)`; verl adds 1e-8)."""

    statistics: str = "batch"
    """`batch`: mean and variance of the current batch. `running`: of the last `statistics_window` calls together; for
    `separate_async`, where verl calls the estimator once per mini-batch, and for `colocate_async`, to pool steps."""

    statistics_window: int = 4
    """Number of calls that `statistics: running` pools; if equal to `parameter_sync_step`, the population is verl's
    train batch."""

    reward_norm: str = "none"
    """z-score of the scores, applied first: `batch`, over this batch; `running`, over the training so far; `none`
    (OpenRLHF). Paper, App. B.2."""

    reward_scale: float = 1.0
    """Factor on the scores, after `reward_norm` (paper, App. B.2)."""

    reward_clip: list[float] | None = field(default_factory=lambda: [-10.0, 10.0])
    """[low, high] bounds on each score, after `reward_scale` (paper, App. B.2; OpenRLHF +-10); null for none (verl)."""

    reward_clip_at: str = "after_baseline"
    """Clip scores `after_baseline`, with the group mean already subtracted (OpenRLHF), or `before_baseline` (Molt). No
    difference for estimators without a group mean."""

    zero_signal: str = "keep"
    """`pin`: prompt groups with equal scores get advantage 0 and are excluded from the statistics; for estimators
    without a group mean the batch is one group. `keep`: they are included (paper, OpenRLHF, verl)."""

    nonfinite: str = "raise"
    """A NaN or infinite score, or log-probability of the reference or the rollout: `raise` stops the run, `drop`
    removes and counts the row. One of the policy itself always stops the run, because the update would be NaN too."""

    baseline: str = "batch_mean"
    """For `reinforce` and `reinforce_reward_to_go`: `none`, `batch_mean`, or `moving_average` over the training so far
    (arXiv 2402.14740, b_MA)."""

    def __post_init__(self) -> None:
        for name, valid in CHOICES.items():
            if (given := vars(self)[name]) not in valid:
                raise ValueError(f"{OPTIONS_NODE}.{name} is {given!r}: it must be one of {', '.join(valid)}")
        for name in ("variance_floor", "reward_scale"):
            if not (math.isfinite(given := vars(self)[name]) and given > 0):
                raise ValueError(f"{OPTIONS_NODE}.{name} is {given}: it must be finite and > 0")
        if self.statistics_window < 1:
            raise ValueError(f"{OPTIONS_NODE}.statistics_window is {self.statistics_window}: it must be 1 or more")
        if self.reward_clip is not None and not _bounds_around_zero(self.reward_clip):
            # Tokens without a score are 0, which the clip must not change.
            raise ValueError(
                f"{OPTIONS_NODE}.reward_clip is {self.reward_clip}: it must be [low, high] with low <= 0 <= high"
            )

    @property
    def needs_memory(self) -> bool:
        """True if a statistic is kept across batches and must be saved in checkpoints."""
        return "running" in (self.statistics, self.reward_norm) or self.baseline == "moving_average"


def _bounds_around_zero(bounds: list[float]) -> bool:
    return len(bounds) == 2 and bounds[0] <= 0 <= bounds[1] and bounds[0] < bounds[1]


OPENRLHF = ReinforceppOptions()
PRESETS = {
    "openrlhf": OPENRLHF,
    # App. B.2 specifies samples as the population and "predefined bounds" for the reward, without numbers.
    "paper": replace(OPENRLHF, population="sample"),
    "verl": replace(OPENRLHF, unbiased_variance=True, reward_clip=None),
}


def option_types(options: type = ReinforceppOptions) -> dict[str, str]:
    """Return the keys of an options class in order, with their types as written."""
    return {option.name: getattr(option.type, "__name__", str(option.type)) for option in fields(options)}


@dataclass(frozen=True)
class NoOptions:
    """Options class of a policy loss without options."""
