"""ms-swift: `--advantage_estimator reinforce_plus_plus --scale_rewards batch --kl_in_reward true`.

`compute_advantages`, or with ragged groups or answers of several rows `compute_advantages_dynamic`. The KL of an answer
is summed as in `GRPOTrainer._compute_advantages`. The policy loss is inlined into the trainer's forward pass and is not
called.
"""

from __future__ import annotations

from typing import Any

import torch
from swift.rl_core.advantage import compute_advantages, compute_advantages_dynamic, expand_advantage_to_per_token


def call(case: dict[str, Any]) -> dict[str, Any]:
    """Compute a case with ms-swift's code."""
    if case["kind"] == "policy_loss":
        raise NotImplementedError("the loss is inlined into the trainer's forward pass")
    if case["reward_clip"] is not None:
        raise NotImplementedError("ms-swift does not clip rewards")
    if (case["token_level_scores"] != 0).sum(-1).max() > 1:
        raise NotImplementedError("a reward is one number per answer")
    mask, group, session = case["response_mask"], case["group"].tolist(), case["session"].tolist()
    kl_values = None
    if case["ref_log_prob"] is not None:
        kl_values = ((case["old_log_prob"] - case["ref_log_prob"]) * mask).sum(-1).float()
    rewards = case["token_level_scores"].sum(-1, keepdim=True)
    shared = {
        "rewards_per_func": rewards.float(),
        "reward_weights": torch.ones(1),
        "advantage_estimator": "reinforce_plus_plus",
        "scale_rewards": "batch",
        "kl_in_reward": True,
        "beta": case["kl_coef"],
        "kl_values": kl_values,
    }
    size = group.count(group[0])
    in_order = group == sorted(group) and all(group.count(g) == size for g in group)
    if in_order and len(set(session)) == len(session):
        advantages, _ = compute_advantages(num_generations=size, **shared)
    else:
        ids = {"prompt_ids": [str(g) for g in group], "request_ids": [str(s) for s in session]}
        advantages, _ = compute_advantages_dynamic(**ids, **shared)
    return {"advantages": expand_advantage_to_per_token(advantages, mask)}
