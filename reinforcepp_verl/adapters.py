"""REINFORCE++ behind the signatures that verl 0.9.1 calls: unpack the config, call the pure function, return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from reinforcepp_verl import advantages as estimators
from reinforcepp_verl.config import ReinforceppConfig
from reinforcepp_verl.losses import clipped_surrogate, masked_mean

if TYPE_CHECKING:
    from verl.workers.config import ActorConfig


def reinforcepp_advantage(
    token_level_rewards: Tensor, response_mask: Tensor, config: DictConfig | None = None, **_: Any
) -> tuple[Tensor, Tensor]:
    """Compute REINFORCE++ advantages and returns; `config` is verl's `algorithm` node."""
    assert config is not None, "verl passes its `algorithm` node as config"
    options = ReinforceppConfig.from_node(config.get("reinforcepp"))
    return estimators.reinforcepp(
        token_level_rewards,
        response_mask,
        gamma=config.gamma,
        variance_floor=options.variance_floor,
        unbiased_variance=options.unbiased_variance,
    )


def reinforcepp_baseline_advantage(
    token_level_rewards: Tensor, response_mask: Tensor, index: np.ndarray, config: DictConfig | None = None, **_: Any
) -> tuple[Tensor, Tensor]:
    """Compute REINFORCE++-baseline advantages and returns; `index` holds the uid of each row's prompt."""
    assert config is not None, "verl passes its `algorithm` node as config"
    if config.gamma != 1:
        raise ValueError(
            f"algorithm.gamma is {config.gamma}: REINFORCE++-baseline scores whole answers, which have no discount; "
            "set algorithm.gamma=1.0 or use the plain REINFORCE++ estimator"
        )
    options = ReinforceppConfig.from_node(config.get("reinforcepp"))
    _uids, group_index = np.unique(index, return_inverse=True)
    return estimators.reinforcepp_baseline(
        token_level_rewards,
        response_mask,
        group_index=torch.as_tensor(group_index, device=token_level_rewards.device),
        variance_floor=options.variance_floor,
        unbiased_variance=options.unbiased_variance,
    )


def reinforcepp_policy_loss(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    loss_agg_mode: str = "token-mean",
    config: ActorConfig | None = None,
    rollout_is_weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Compute the clipped loss, aggregated by verl; `config` is verl's `actor_rollout_ref.actor` node."""
    # Imported here: verl imports this module through its plugin hook, while verl itself is half imported.
    from verl.trainer.ppo.core_algos import agg_loss

    assert config is not None, "verl passes its `actor_rollout_ref.actor` node as config"
    valid = response_mask.bool()
    # Masked values are replaced before any arithmetic: a NaN there would survive a later multiplication by zero.
    log_prob, old_log_prob, advantages = (torch.where(valid, x, 0.0) for x in (log_prob, old_log_prob, advantages))
    clip_low, clip_high = _clip_bounds(config)
    terms = clipped_surrogate(
        log_prob,
        old_log_prob,
        advantages=advantages,
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=_dual_clip(config),
    )
    loss = terms.loss
    if rollout_is_weights is not None:
        loss = loss * torch.where(valid, rollout_is_weights, 0.0)
    # Without a valid token verl may divide 0 by 0; the plain sum is 0 there and keeps the graph.
    loss = agg_loss(loss, valid, loss_agg_mode, **config.global_batch_info) if valid.any() else loss.sum()
    return loss, {
        "actor/pg_clipfrac": masked_mean(terms.clipped, valid).item(),
        "actor/ppo_kl": masked_mean(terms.approx_kl.detach(), valid).item(),
        "actor/pg_clipfrac_lower": masked_mean(terms.dual_clipped, valid).item(),
    }


def _clip_bounds(config: ActorConfig) -> tuple[float, float]:
    """Read the clip range; null low or high falls back to clip_ratio, which verl's own 0.2 defaults would shadow."""
    low, high = config.clip_ratio_low, config.clip_ratio_high
    return (config.clip_ratio if low is None else low, config.clip_ratio if high is None else high)


def _dual_clip(config: ActorConfig) -> float | None:
    """Read the dual clip; null switches it off."""
    bound = config.clip_ratio_c
    if bound is not None and not bound > 1:
        raise ValueError(f"actor_rollout_ref.actor.clip_ratio_c is {bound}: it must be > 1, or null for no dual clip")
    return bound
