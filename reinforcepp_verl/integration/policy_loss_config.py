"""verl's node `actor_rollout_ref.actor.policy_loss`, extended by the options of a loss (hook: `_target_`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from verl.workers.config import PolicyLossConfig

from reinforcepp_verl.algorithm.registry import LOSSES
from reinforcepp_verl.config.nodes import read_loss_options


@dataclass
class PolicyLossWithOptions(PolicyLossConfig):
    """verl instantiates it on the driver, in `validate_config`, and in each FSDP worker."""

    options: dict[str, Any] = field(default_factory=dict)
    """Options of the loss `loss_mode`, an instance of its registered class; empty for verl's own losses."""

    def __post_init__(self) -> None:
        if self.options or self.loss_mode in LOSSES:
            read_loss_options(self.loss_mode, self.options)
