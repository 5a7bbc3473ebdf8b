"""SkyRL: `reinforce++` and the losses `regular` and `dual_clip`.

`compute_reinforce_plus_plus_outcome_advantage`, `compute_approx_kl`, `ppo_policy_loss` and
`apply_loss_reduction_to_advantages_minibatch`. There is no baseline variant. As in its trainer, the mask of the
estimator covers the whole response, tool output included, and only the KL and the loss are masked by sampled tokens.
The KL is subtracted as in `apply_reward_kl_penalty` and the KL loss averaged as in `PolicyWorkerBase`, which need Ray
workers.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from shims import bare_package
from torch import Tensor

for package in ("skyrl.backends", "skyrl.backends.skyrl_train", "skyrl.backends.skyrl_train.utils"):
    bare_package(package)

from skyrl.backends.skyrl_train.utils.ppo_utils import (  # noqa: E402
    apply_loss_reduction_to_advantages_minibatch,
    compute_approx_kl,
    compute_reinforce_plus_plus_outcome_advantage,
    ppo_policy_loss,
)
from skyrl.backends.skyrl_train.utils.torch_utils import masked_mean  # noqa: E402

REDUCTIONS = {
    "token-mean": "token_mean",
    "seq-mean-token-mean": "sequence_mean",
    "seq-mean-token-sum-norm": "seq_mean_token_sum_norm",
}


def call(case: dict[str, Any]) -> dict[str, Any]:
    """Compute a case with SkyRL's code."""
    if case["kind"] == "policy_loss":
        return {"loss": _loss(case)}
    if case["estimator"] != "reinforcepp":
        raise NotImplementedError("SkyRL has no REINFORCE++-baseline")
    if case["reward_clip"] is not None:
        raise NotImplementedError("SkyRL does not clip rewards")
    rewards, sampled = case["token_level_scores"], case["response_mask"]
    whole_response = (sampled | (rewards != 0)).flip(-1).cummax(-1).values.flip(-1)
    if case["ref_log_prob"] is not None:
        kl = compute_approx_kl(case["old_log_prob"], case["ref_log_prob"], sampled, case["kl_penalty"])
        rewards = rewards - kl * case["kl_coef"]
    found = compute_reinforce_plus_plus_outcome_advantage(rewards, whole_response, case["gamma"])
    return dict(zip(("advantages", "returns"), found, strict=True))


def _loss(case: dict[str, Any]) -> Tensor:
    mode = case["loss_agg_mode"]
    if mode not in REDUCTIONS:
        raise NotImplementedError(f"loss_reduction has no {mode}")
    if case["kl_loss_type"].endswith("+"):
        raise NotImplementedError("kl_estimator_type has no straight-through gradient")
    mask = case["response_mask"].double()
    micro_batches = case["micro_batches"] or [list(range(len(mask)))]
    config = SimpleNamespace(
        policy_loss_type="dual_clip" if case["clip_ratio_c"] else "regular",
        eps_clip_low=case["clip_ratio_low"],
        eps_clip_high=case["clip_ratio_high"],
        clip_ratio_c=case["clip_ratio_c"],
        off_policy_correction=None,
    )
    size = max(len(rows) for rows in micro_batches)
    scaled = apply_loss_reduction_to_advantages_minibatch(
        case["advantages"], mask, REDUCTIONS[mode], micro_batch_size=size, max_seq_len=mask.shape[1]
    )
    total = torch.zeros((), dtype=torch.float64)
    for rows in micro_batches:
        new = case["log_prob"][rows]
        total = total + ppo_policy_loss(new, case["old_log_prob"][rows], scaled[rows], config, mask[rows])[0]
        if case["ref_log_prob"] is not None:
            kl = compute_approx_kl(new, case["ref_log_prob"][rows], mask[rows], case["kl_loss_type"])
            total = total + case["kl_loss_coef"] * masked_mean(kl, mask[rows], dim=-1).mean() / len(micro_batches)
    return total
