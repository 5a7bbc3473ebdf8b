"""verl: `reinforce_plus_plus`, `reinforce_plus_plus_baseline` and the loss `vanilla`.

Called directly, with `apply_kl_penalty` for the KL in the reward, `kl_penalty` for the KL loss, and `agg_loss`.
`clip_ratio_c` cannot be null, so where a case asks for no dual clip, its default of 3 stays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from omegaconf import OmegaConf
from tensordict import TensorDict
from torch import Tensor
from verl import DataProto
from verl.trainer.ppo.core_algos import (
    FixedKLController,
    compute_policy_loss_vanilla,
    compute_reinforce_plus_plus_baseline_outcome_advantage,
    compute_reinforce_plus_plus_outcome_advantage,
)
from verl.trainer.ppo.ray_trainer import apply_kl_penalty
from verl_losses import loss_over_micro_batches


def call(case: dict[str, Any]) -> dict[str, Any]:
    """Compute a case with verl's functions."""
    if case["kind"] == "policy_loss":
        return {"loss": loss_over_micro_batches(case, compute_policy_loss_vanilla, case["clip_ratio_c"] or 3.0)}
    if case["reward_clip"] is not None:
        raise NotImplementedError("verl does not clip rewards")
    rewards, mask = _token_level_rewards(case), case["response_mask"]
    if case["estimator"] == "reinforcepp":
        config = OmegaConf.create({"gamma": case["gamma"]})
        advantages, returns = compute_reinforce_plus_plus_outcome_advantage(rewards, mask, config=config)
        return {"advantages": advantages, "returns": returns}
    index = np.array(case["group"].tolist())
    # Its returns are the normalized advantages again; only a critic, which this estimator has not, would read them.
    return {"advantages": compute_reinforce_plus_plus_baseline_outcome_advantage(rewards, mask, index)[0]}


def _token_level_rewards(case: dict[str, Any]) -> Tensor:
    scores = case["token_level_scores"]
    if case["ref_log_prob"] is None:
        return scores.clone()
    tensors = {
        "token_level_scores": scores,
        "response_mask": case["response_mask"],
        "old_log_probs": case["old_log_prob"],
        "ref_log_prob": case["ref_log_prob"],
    }
    data = DataProto(batch=TensorDict(tensors, batch_size=len(scores)))
    apply_kl_penalty(data, FixedKLController(case["kl_coef"]), case["kl_penalty"])
    return data.batch["token_level_rewards"]
