"""Our estimators and our loss behind the signatures that verl 0.9.1 calls: unpack, call the pure function, return."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from reinforcepp_verl.algorithm import estimators
from reinforcepp_verl.algorithm.batch import RewardBatch
from reinforcepp_verl.algorithm.losses import clipped_surrogate, masked_mean
from reinforcepp_verl.algorithm.normalise import Estimate
from reinforcepp_verl.algorithm.options import FAMILY
from reinforcepp_verl.config.nodes import read_options
from reinforcepp_verl.integration import batch_context as steps

if TYPE_CHECKING:
    from verl.workers.config import ActorConfig


def for_verl(name: str, estimator: Callable[..., Estimate], *, discounts: bool) -> Callable[..., tuple[Tensor, Tensor]]:
    """Put an estimator behind verl's signature; `discounts` says whether it takes `gamma`.

    Raises:
        ValueError: a gamma other than 1 for an estimator that does not discount
    """

    def advantage(
        token_level_rewards: Tensor,
        response_mask: Tensor,
        config: DictConfig | None = None,
        index: np.ndarray | None = None,
        **_: Any,
    ) -> tuple[Tensor, Tensor]:
        assert config is not None, "verl passes its `algorithm` node as config"
        if config.gamma != 1 and not discounts:
            raise ValueError(
                f"algorithm.gamma is {config.gamma}: {name} scores whole answers, which have no discount; set "
                "algorithm.gamma=1.0 or use +method=reinforcepp"
            )
        options = read_options(OmegaConf.select(config, "reinforcepp"))
        step = steps.current()
        batch = _reward_batch(token_level_rewards, response_mask, index, config, step)
        discount = {"gamma": config.gamma} if discounts else {}
        estimate = estimator(batch, options, memory=step.memory if step is not None else None, **discount)
        if step is not None:
            step.metrics.update(estimate.metrics)
        return estimate.advantages, estimate.returns

    advantage.__name__ = f"{name}_advantage"
    advantage.__doc__ = f"Compute `{name}` advantages and returns from verl's `algorithm` node and the uids."
    return advantage


ESTIMATORS = {
    estimator.__name__: for_verl(estimator.__name__, estimator, discounts=FAMILY[estimator.__name__].discounts)
    for estimator in (
        estimators.reinforcepp,
        estimators.reinforcepp_baseline,
        estimators.reinforce,
        estimators.reinforce_reward_to_go,
        estimators.raft,
    )
}
"""The estimators that our trainers serve, by name, as verl calls them."""


def register_estimator(name: str, estimator: Callable[..., Estimate], *, discounts: bool) -> None:
    """Offer an estimator of your own as `algorithm.adv_estimator=name`; our trainers serve it like ours.

    Raises:
        ValueError: the name is taken
    """
    from verl.trainer.ppo.core_algos import register_adv_est

    adapted = for_verl(name, estimator, discounts=discounts)
    register_adv_est(name)(adapted)
    ESTIMATORS[name] = adapted


def _reward_batch(
    rewards: Tensor, mask: Tensor, index: np.ndarray | None, config: DictConfig, step: steps.Step | None
) -> RewardBatch:
    """Take score and KL penalty apart again: verl subtracts the one from the other before it calls the estimator."""
    group_index = None
    if index is not None:
        group_index = torch.as_tensor(np.unique(index, return_inverse=True)[1], device=rewards.device)
    kl_in_reward = bool(OmegaConf.select(config, "use_kl_in_reward"))
    if step is None and kl_in_reward:
        raise ValueError(
            "algorithm.use_kl_in_reward is true under a trainer of verl's own, which hides the scores behind the KL; "
            "set trainer.v1.trainer_mode to reinforcepp_sync, reinforcepp_colocate_async or reinforcepp_separate_async"
        )
    if step is None:
        return RewardBatch(rewards, mask, group_index=group_index)
    kl_penalty = step.scores - rewards if kl_in_reward else None
    return RewardBatch(step.scores, mask, kl_penalty, group_index, step.session_index)


def reinforcepp_policy_loss(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    loss_agg_mode: str = "token-mean",
    config: ActorConfig | None = None,
    rollout_is_weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Compute the clipped loss, aggregated by verl; `config` is verl's `actor_rollout_ref.actor` node.

    verl averages the metrics over micro-batches and workers, also the maximum.
    """
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
    weights = None
    if rollout_is_weights is not None:
        weights = torch.where(valid, rollout_is_weights, 0.0)
        loss = loss * weights
    # Without a valid token verl may divide 0 by 0; the plain sum is 0 there and keeps the graph.
    loss = agg_loss(loss, valid, loss_agg_mode, **config.global_batch_info) if valid.any() else loss.sum()
    rejected = torch.zeros_like(valid) if weights is None else weights == 0
    return loss, {
        "actor/pg_clipfrac": masked_mean(terms.clipped, valid).item(),
        "actor/ppo_kl": masked_mean(terms.approx_kl.detach(), valid).item(),
        "actor/pg_clipfrac_lower": masked_mean(terms.dual_clipped, valid).item(),
        "actor/clip_fraction_low": masked_mean(terms.clipped & (advantages < 0), valid).item(),
        "actor/clip_fraction_high": masked_mean(terms.clipped & (advantages > 0), valid).item(),
        "actor/ratio_max": torch.where(valid, (-terms.approx_kl.detach()).exp(), 0.0).max().item(),
        "actor/zero_weight_tokens": masked_mean(rejected, valid).item(),
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
