"""Keys whose value is one of a few names; verl looks at them late, or takes an unknown one for another."""

from __future__ import annotations

import os

from omegaconf import DictConfig

from reinforcepp_verl.common.wording import did_you_mean
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import value
from reinforcepp_verl.config.reward_error_options import OUR_REWARD_MANAGER
from reinforcepp_verl.preflight.registered_names import OWN_MODULES

CHOICES = {
    keys.RESUME_MODE: ("disable", "auto", "resume_path"),
    keys.KL_CTRL_TYPE: ("fixed", "adaptive"),
    keys.TRUNCATION: ("error", "left", "right", "middle"),
    keys.ROLLOUT_NAME: ("vllm", "sglang", "trtllm"),
    keys.TOOL_RESPONSE_TRUNCATE_SIDE: ("left", "middle", "right"),
}
REWARD_MANAGERS = (OUR_REWARD_MANAGER, "naive", "dapo", "gdpo", "rate_limited", "remote")


def check(config: DictConfig) -> list[str]:
    """Check each key; the reward manager only if it cannot be one of the user's own."""
    choices = CHOICES
    if value(config, keys.REWARD_MANAGER_SOURCE) == "register" and not os.environ.get(OWN_MODULES):
        choices = {**CHOICES, keys.REWARD_MANAGER_NAME: REWARD_MANAGERS}
    return [
        f"{key} is {given}: no such name{did_you_mean(given, known)}; set it to one of {', '.join(known)}"
        for key, known in choices.items()
        if (given := value(config, key)) not in known
    ]
