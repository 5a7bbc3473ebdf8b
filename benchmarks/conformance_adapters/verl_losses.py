"""A policy loss in verl's signature, over the micro-batches of an update, as verl's engine and `ppo_loss` call it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from verl.trainer.ppo.core_algos import agg_loss, kl_penalty
from verl.workers.config import FSDPActorConfig

PolicyLoss = Callable[..., tuple[Tensor, dict[str, Any]]]


def loss_over_micro_batches(case: dict[str, Any], policy_loss: PolicyLoss, dual_clip: float | None) -> Tensor:
    """Sum the loss of all micro-batches; their gradients add up."""
    mask = case["response_mask"].bool()
    info: dict[str, Any] = {}
    if case["micro_batches"]:
        info = {"dp_size": 1, "batch_num_tokens": mask.sum(), "global_batch_size": len(mask)}
    config = FSDPActorConfig(
        rollout_n=1,
        ppo_micro_batch_size_per_gpu=1,
        clip_ratio_low=case["clip_ratio_low"],
        clip_ratio_high=case["clip_ratio_high"],
        clip_ratio_c=dual_clip,
        global_batch_info=info,
    )
    mode, total = case["loss_agg_mode"], 0.0
    for rows in case["micro_batches"] or [list(range(len(mask)))]:
        old, new, advantages = (case[key][rows] for key in ("old_log_prob", "log_prob", "advantages"))
        total += policy_loss(old, new, advantages, mask[rows], mode, config)[0]
        if case["ref_log_prob"] is not None:
            kl = kl_penalty(new, case["ref_log_prob"][rows], case["kl_loss_type"])
            total += case["kl_loss_coef"] * agg_loss(kl, mask[rows], mode, **info)
    return total
