"""The config node `preflight`, and the names of the warnings that it can silence."""

from __future__ import annotations

from dataclasses import dataclass, field

from reinforcepp_verl.common.wording import did_you_mean
from reinforcepp_verl.config import keys

ANSWER_FORMAT = "answer_format"
KL_LOSS_GRADIENT = "kl_loss_gradient"
KL_TWICE = "kl_twice"
KL_IN_BASELINE_REWARD = "kl_in_baseline_reward"
LONG_PROMPTS = "long_prompts"
MEMORY_ESTIMATE = "memory_estimate"
MESSAGE_ROLES = "message_roles"
MISSING_FILES = "missing_files"
NO_FLASH_ATTENTION = "no_flash_attention"
OTHER_MACHINE = "other_machine"
SUMMED_STEPS = "summed_steps"
UNMEASURED_TOOLS = "unmeasured_tools"
VERL_TRAINER = "verl_trainer"
WARNINGS = (
    *(ANSWER_FORMAT, KL_LOSS_GRADIENT, KL_TWICE, KL_IN_BASELINE_REWARD, LONG_PROMPTS, MEMORY_ESTIMATE, MESSAGE_ROLES),
    *(MISSING_FILES, NO_FLASH_ATTENTION, OTHER_MACHINE, SUMMED_STEPS, UNMEASURED_TOOLS, VERL_TRAINER),
)


@dataclass
class PreflightOptions:
    """The node `preflight`: the checks before a run starts."""

    allow: list[str] = field(default_factory=list)
    """Warnings to silence: `answer_format` (no prompt says how to mark the answer), `kl_loss_gradient` (k1 or k3 as
    the KL loss), `kl_twice` (KL in the reward and as a loss), `kl_in_baseline_reward` (KL in the reward of
    `reinforcepp_baseline`), `long_prompts` (prompts that are left out or lose their beginning), `memory_estimate` (the
    estimate exceeds the GPU's memory), `message_roles` (a role of a message that chat templates do not know),
    `missing_files` (`check` only: data or model are not on this machine), `no_flash_attention` (sdpa is used, because
    flash-attn is not installed), `other_machine` (smaller than `hardware.meant_for`), `summed_steps` (an estimator
    that adds up the scores of steps), `unmeasured_tools` (prompts are measured without the tools that the model is
    shown), `verl_trainer` (verl's own trainer)."""

    def __post_init__(self) -> None:
        for name in self.allow:
            if name not in WARNINGS:
                near = did_you_mean(name, WARNINGS)
                raise ValueError(
                    f"{keys.PREFLIGHT_ALLOW} has {name}: no such warning{near}; known names: {', '.join(WARNINGS)}"
                )
