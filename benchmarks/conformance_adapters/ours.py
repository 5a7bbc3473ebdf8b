"""This package: the estimators of `algorithm/`, and the loss `reinforcepp` as verl calls it.

The options of a case select ours. The KL in the reward and the KL loss are verl's `kl_penalty`, the aggregation is
verl's `agg_loss`, as in a run.
"""

from __future__ import annotations

from typing import Any

from verl.trainer.ppo.core_algos import kl_penalty
from verl_losses import loss_over_micro_batches

from reinforcepp_verl.algorithm import estimators
from reinforcepp_verl.algorithm.batch import RewardBatch
from reinforcepp_verl.algorithm.options import ReinforceppOptions
from reinforcepp_verl.integration.loss_adapter import loss_for_verl


def call(case: dict[str, Any]) -> dict[str, Any]:
    """Compute a case with the options it asks for."""
    if case["kind"] == "policy_loss":
        return {"loss": loss_over_micro_batches(case, loss_for_verl("reinforcepp"), case["clip_ratio_c"])}
    options = ReinforceppOptions(
        population=case["population"],
        unbiased_variance=case["unbiased_variance"],
        reward_clip=case["reward_clip"],
    )
    penalty = None
    if case["ref_log_prob"] is not None:
        penalty = case["kl_coef"] * kl_penalty(case["old_log_prob"], case["ref_log_prob"], case["kl_penalty"])
    plain = case["estimator"] == "reinforcepp"
    batch = RewardBatch(
        case["token_level_scores"],
        case["response_mask"],
        penalty,
        case["group"],
        case["session"],
        case["token_level_scores"] != 0 if plain else None,
    )
    discount = {"gamma": case["gamma"]} if plain else {}
    estimate = getattr(estimators, case["estimator"])(batch, options, **discount)
    return {"advantages": estimate.advantages, "returns": estimate.returns}
