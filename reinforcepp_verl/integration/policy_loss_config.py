"""verl's node `actor_rollout_ref.actor.policy_loss` with room for a loss's own options (hook: `_target_`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from verl.workers.config import PolicyLossConfig

from reinforcepp_verl.algorithm.registry import LOSSES
from reinforcepp_verl.config.nodes import read_loss_options


@dataclass
class PolicyLossWithOptions(PolicyLossConfig):
    """verl makes one on the driver, in `validate_config`, and in each FSDP worker."""

    options: dict[str, Any] = field(default_factory=dict)
    """Of the loss that `loss_mode` names, as the class it was registered with; none for verl's own losses."""

    def __post_init__(self) -> None:
        if self.options or self.loss_mode in LOSSES:
            read_loss_options(self.loss_mode, self.options)
