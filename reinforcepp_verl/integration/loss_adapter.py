"""Registered policy losses behind the signature that verl 0.9.1 calls, with the steps that all verl losses share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
import wrapt
from torch import Tensor

from reinforcepp_verl.algorithm.losses import ClipRange, LossBatch, masked_mean
from reinforcepp_verl.algorithm.registry import LOSSES, RegisteredLoss
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.nodes import read_loss_options
from reinforcepp_verl.integration.estimator_adapter import VERL_REGISTRIES

if TYPE_CHECKING:
    from verl.workers.config import ActorConfig


def offer_to_verl(name: str) -> None:
    """Add a registered loss to verl's registry, now or as soon as that is imported.

    Raises:
        ValueError: another package has registered that name with verl
    """

    def register(core_algos: ModuleType) -> None:
        ours = loss_for_verl(name)
        # verl would silently overwrite a policy loss of the same name.
        if core_algos.POLICY_LOSS_REGISTRY.get(name, ours) is not ours:
            raise ValueError(f"another package has registered the policy loss {name!r}; uninstall one of the two")
        core_algos.register_policy_loss(name)(ours)

    wrapt.register_post_import_hook(register, VERL_REGISTRIES)


def loss_for_verl(name: str) -> Callable[..., tuple[Tensor, dict[str, float]]]:
    """Return the function that verl calls for a registered loss, always the same one."""
    return _adapted(LOSSES[name])


@functools.cache
def _adapted(registered: RegisteredLoss) -> Callable[..., tuple[Tensor, dict[str, float]]]:
    def policy_loss(
        old_log_prob: Tensor,
        log_prob: Tensor,
        advantages: Tensor,
        response_mask: Tensor,
        loss_agg_mode: str = "token-mean",
        config: ActorConfig | None = None,
        rollout_is_weights: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, float]]:
        assert config is not None, f"verl passes its node {keys.ACTOR} as config"
        valid = response_mask.bool()
        # Masked values are replaced before any arithmetic: a NaN would survive a multiplication by zero.
        log_prob, old_log_prob, advantages = (torch.where(valid, x, 0.0) for x in (log_prob, old_log_prob, advantages))
        batch = LossBatch(log_prob, old_log_prob, advantages, valid, clip_range(config))
        terms = registered.function(batch, read_loss_options(registered.name, config.policy_loss.get("options")))
        weights = None if rollout_is_weights is None else torch.where(valid, rollout_is_weights, 0.0)
        loss = _aggregated(_checked(terms.loss, valid, registered.name), valid, weights, loss_agg_mode, config)
        rejected = torch.zeros_like(valid) if weights is None else weights == 0
        return loss, _means({**terms.metrics, "actor/zero_weight_tokens": rejected}, valid)

    policy_loss.__name__ = f"{registered.name}_policy_loss"
    policy_loss.__doc__ = f"Compute the loss `{registered.name}`, aggregated by verl."
    return policy_loss


def _checked(loss: Tensor, valid: Tensor, name: str) -> Tensor:
    if loss.shape != valid.shape:
        raise ValueError(
            f"the policy loss {name} returned a loss of shape {tuple(loss.shape)}: it must have one value per token, "
            f"{tuple(valid.shape)}, which verl then aggregates"
        )
    return torch.where(valid, loss, 0.0)


def _aggregated(loss: Tensor, valid: Tensor, weights: Tensor | None, mode: str, config: ActorConfig) -> Tensor:
    """Aggregate (B, T) over the global batch, with the importance weights of rollout correction."""
    # Imported here: verl imports this module through its plugin hook while it is only partially imported itself.
    from verl.trainer.ppo.core_algos import agg_loss

    weighted = loss if weights is None else loss * weights
    # Without a valid token verl may divide 0 by 0; the plain sum is 0 there and keeps the graph.
    return agg_loss(weighted, valid, mode, **config.global_batch_info) if valid.any() else weighted.sum()


def _means(metrics: dict[str, Any], valid: Tensor) -> dict[str, float]:
    """Average per-token values over the valid tokens; verl averages over micro-batches and workers."""
    return {
        name: masked_mean(given.detach(), valid).item() if isinstance(given, Tensor) and given.dim() else float(given)
        for name, given in metrics.items()
    }


def clip_range(config: ActorConfig) -> ClipRange:
    """Read the actor's clip range; null low or high means clip_ratio, null clip_ratio_c means no dual clip."""
    low, high, dual = config.clip_ratio_low, config.clip_ratio_high, config.clip_ratio_c
    if dual is not None and not dual > 1:
        raise ValueError(f"{keys.CLIP_RATIO_C} is {dual}: it must be > 1, or null for no dual clip")
    return ClipRange(config.clip_ratio if low is None else low, config.clip_ratio if high is None else high, dual)
