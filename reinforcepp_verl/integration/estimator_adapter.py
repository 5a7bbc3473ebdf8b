"""Registered estimators behind the signature that verl 0.9.1 calls: unpack, call the pure function, return."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import torch
import wrapt
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from reinforcepp_verl.algorithm.batch import RewardBatch
from reinforcepp_verl.algorithm.options import ReinforceppOptions
from reinforcepp_verl.algorithm.registry import ESTIMATORS, RegisteredEstimator, options_on_scores
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.nodes import read_options
from reinforcepp_verl.integration.batch_context import BatchContext, current_context

VERL_REGISTRIES = "verl.trainer.ppo.core_algos"


def offer_to_verl(name: str) -> None:
    """Add a registered estimator to verl's registry, now or as soon as that is imported.

    Raises:
        ValueError: another package has registered that name with verl
    """

    def register(core_algos: ModuleType) -> None:
        core_algos.register_adv_est(name)(estimator_for_verl(name))

    wrapt.register_post_import_hook(register, VERL_REGISTRIES)


def estimator_for_verl(name: str) -> Callable[..., tuple[Tensor, Tensor]]:
    """Return the function that verl calls for a registered estimator, always the same one."""
    return _adapted(ESTIMATORS[name])


@functools.cache
def _adapted(estimator: RegisteredEstimator) -> Callable[..., tuple[Tensor, Tensor]]:
    name, traits = estimator.name, estimator.traits

    def advantage(
        token_level_rewards: Tensor,
        response_mask: Tensor,
        config: DictConfig | None = None,
        index: np.ndarray | None = None,
        **_: Any,
    ) -> tuple[Tensor, Tensor]:
        assert config is not None, "verl passes its `algorithm` node as config"
        if config.gamma != 1 and not traits.uses_gamma:
            raise ValueError(
                f"{keys.GAMMA} is {config.gamma}: {name} scores whole answers, which have no discount; set "
                f"{keys.GAMMA}=1.0 or use +method=reinforcepp"
            )
        options = read_options(OmegaConf.select(config, "reinforcepp"))
        context = current_context()
        if context is None and traits.keeps_state:
            raise ValueError(
                f"{keys.ADV_ESTIMATOR} is {name}: it keeps state across batches, which verl's own trainers do not "
                "save; train with `reinforcepp train`"
            )
        kl_in_reward = bool(OmegaConf.select(config, "use_kl_in_reward"))
        if context is None and kl_in_reward:
            _refuse_what_needs_scores(estimator, options, token_level_rewards, response_mask)
        batch = _reward_batch(token_level_rewards, response_mask, index, context, kl_in_reward=kl_in_reward)
        discount = {"gamma": config.gamma} if traits.uses_gamma else {}
        memory = context.memory if context is not None else None
        estimate = estimator.function(batch, options, memory=memory, **discount)
        if context is not None:
            context.metrics.update(estimate.metrics)
        return estimate.advantages, estimate.returns

    advantage.__name__ = f"{name}_advantage"
    advantage.__doc__ = f"Compute `{name}` advantages and returns from verl's `algorithm` node and the uids."
    return advantage


def _reward_batch(
    rewards: Tensor,
    mask: Tensor,
    index: np.ndarray | None,
    context: BatchContext | None,
    *,
    kl_in_reward: bool,
) -> RewardBatch:
    """Separate score and KL penalty: verl subtracts the penalty from the score before it calls the estimator.

    Without a context, verl's rewards are used as the scores.
    """
    group_index = None
    if index is not None:
        group_index = torch.as_tensor(np.unique(index, return_inverse=True)[1], device=rewards.device)
    if context is None:
        return RewardBatch(rewards, mask, group_index=group_index)
    kl_penalty = context.scores - rewards if kl_in_reward else None
    scores, score_mask = _without_rejected_start(context, mask)
    return RewardBatch(scores, mask, kl_penalty, group_index, context.session_index, score_mask, context.greedy_score)


def _without_rejected_start(context: BatchContext, mask: Tensor) -> tuple[Tensor, Tensor | None]:
    """Drop the scores of tokens that rollout correction rejected with all tokens before: no token left earned them."""
    scores, score_mask = context.scores, context.score_mask
    if context.sampled is None or torch.equal(mask.bool(), context.sampled.bool()):
        return scores, score_mask
    dropped = (mask.bool().cumsum(-1) == 0) & (context.sampled.bool().cumsum(-1) > 0)
    if score_mask is not None:
        score_mask = score_mask.bool() & ~dropped
    return scores.masked_fill(dropped, 0.0), score_mask


def _refuse_what_needs_scores(
    estimator: RegisteredEstimator, options: ReinforceppOptions, rewards: Tensor, mask: Tensor
) -> None:
    """Refuse settings that would have another meaning on scores that include the KL.

    Raises:
        ValueError: it names the setting and the fix
    """
    if estimator.traits.needs_scores:
        raise ValueError(
            f"{keys.USE_KL_IN_REWARD} is true: {estimator.name} needs the scores without the KL, and verl's own "
            f"trainers pass only their difference; set {keys.USE_KL_IN_REWARD}=false {keys.USE_KL_LOSS}=true "
            f"{keys.KL_LOSS_TYPE}=mse to use the KL as a loss, or train with `reinforcepp train`"
        )
    found = _option_on_scores(estimator, options, rewards[mask.bool()])
    if found is not None:
        name, given, off = found
        raise ValueError(
            f"{keys.REINFORCEPP}.{name} is {given}: it applies to scores without the KL, and verl's own trainers pass "
            f"only their difference; set {keys.REINFORCEPP}.{name}={off} (with verl's own configuration prefix it "
            "with ++), or train with `reinforcepp train`"
        )


def _option_on_scores(
    estimator: RegisteredEstimator, options: ReinforceppOptions, rewards: Tensor
) -> tuple[str, str, str] | None:
    """Return an option that changes scores, its value, and the value that leaves scores unchanged."""
    for name in options_on_scores(estimator.name, options):
        return name, str(vars(options)[name]), str(vars(ReinforceppOptions())[name])
    if "reward_clip" not in estimator.options_read or options.reward_clip is None:
        return None
    low, high = options.reward_clip
    clipped = rewards[rewards.isfinite() & ((rewards < low) | (rewards > high))]
    return ("reward_clip", f"{options.reward_clip} and a reward is {clipped[0]:g}", "null") if len(clipped) else None
