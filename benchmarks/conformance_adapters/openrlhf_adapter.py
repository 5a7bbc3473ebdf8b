"""OpenRLHF: `reinforce`, `reinforce_baseline` and `PolicyLoss`.

The method `RemoteExperienceMaker.compute_advantages_and_returns`, unchanged, on an object that has its arguments but no
Ray actors; `compute_approx_kl`, `PolicyLoss`, `aggregate_loss` and `iter_grad_accum_global_norm`. deepspeed and
flash-attn, which do not build without a GPU toolchain, are left out of the import: the code that runs uses neither.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from shims import bare_package, stub
from torch import Tensor

for package in ("openrlhf.models", "openrlhf.trainer.ray"):
    bare_package(package)
stub("deepspeed")
stub("openrlhf.trainer.ray.launcher", RayActorGroup=None)

from openrlhf.models.loss import PolicyLoss, aggregate_loss  # noqa: E402
from openrlhf.models.utils import compute_approx_kl  # noqa: E402
from openrlhf.trainer.ppo_utils.experience import Experience  # noqa: E402
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker  # noqa: E402
from openrlhf.utils.loss_utils import iter_grad_accum_global_norm  # noqa: E402

ESTIMATORS = {"reinforcepp": "reinforce", "reinforcepp_baseline": "reinforce_baseline"}
PER_TOKEN = {"token-mean": True, "seq-mean-token-mean": False}


def call(case: dict[str, Any]) -> dict[str, Any]:
    """Compute a case with OpenRLHF's code."""
    return {"loss": _loss(case)} if case["kind"] == "policy_loss" else _advantages(case)


def _advantages(case: dict[str, Any]) -> dict[str, Any]:
    scores, mask, group = (case[key] for key in ("token_level_scores", "response_mask", "group"))
    if (scores != 0).sum(-1).max() > 1 or (scores.sum(-1) != scores[:, -1]).any() and _has_step_scores(scores, mask):
        raise NotImplementedError("a reward is one number per answer")
    if len(set(case["session"].tolist())) < len(scores):
        raise NotImplementedError("an answer is one row")
    size = _group_size(group) if case["estimator"] == "reinforcepp_baseline" else 1
    if case["estimator"] == "reinforcepp_baseline" and size < 2:
        raise NotImplementedError("the command line asserts two or more answers per prompt")
    kl = torch.zeros_like(scores)
    if case["ref_log_prob"] is not None:
        kl = compute_approx_kl(case["old_log_prob"], case["ref_log_prob"], kl_estimator=case["kl_penalty"])
    # One experience with all rows; `index` is each row's place when sorted by prompt.
    place = torch.argsort(torch.argsort(group, stable=True)).tolist()
    experience = Experience(rewards=scores.sum(-1), kl=kl, action_mask=mask.bool(), index=place)
    maker = _maker(case, size)
    [done] = maker.compute_advantages_and_returns([experience])
    return {"advantages": done.advantages, "returns": done.returns}


def _has_step_scores(scores: Tensor, mask: Tensor) -> bool:
    last = mask.shape[1] - 1 - mask.flip(-1).argmax(-1, keepdim=True)
    early = torch.arange(mask.shape[1]) < last
    return bool(((scores != 0) & early).any())


def _group_size(group: Tensor) -> int:
    sizes = set(torch.unique(group, return_counts=True)[1].tolist())
    if len(sizes) > 1:
        raise NotImplementedError("all prompts have n_samples_per_prompt answers")
    return sizes.pop()


def _maker(case: dict[str, Any], size: int) -> RemoteExperienceMaker:
    estimator = ESTIMATORS[case["estimator"]]
    advantage = SimpleNamespace(estimator=estimator, gamma=case["gamma"], lambd=1.0, no_std_norm=False)
    args = SimpleNamespace(
        algo=SimpleNamespace(advantage=advantage),
        rollout=SimpleNamespace(n_samples_per_prompt=size),
        reward=SimpleNamespace(clip_range=case["reward_clip"]),
    )
    maker = object.__new__(RemoteExperienceMaker)
    maker.strategy = SimpleNamespace(args=args)
    maker.args, maker.advantage_estimator = args, estimator
    maker.kl_ctl = SimpleNamespace(value=case["kl_coef"])
    return maker


def _loss(case: dict[str, Any]) -> Tensor:
    mode = case["loss_agg_mode"]
    if mode not in PER_TOKEN:
        raise NotImplementedError(f"aggregate_loss has no {mode}")
    policy_loss = PolicyLoss(
        case["clip_ratio_low"], case["clip_ratio_high"], case["clip_ratio_c"], token_level_loss=PER_TOKEN[mode]
    )
    mask = case["response_mask"]
    micro_batches = case["micro_batches"] or [list(range(len(mask)))]
    total, count = torch.zeros((), dtype=torch.float64), len(micro_batches)
    normed = iter_grad_accum_global_norm(micro_batches, SimpleNamespace(), count, lambda rows: mask[rows])
    for rows, info in normed:
        old, new, advantages = (case[key][rows] for key in ("old_log_prob", "log_prob", "advantages"))
        loss = policy_loss(new, old, advantages, action_mask=mask[rows], **info)[0]
        if case["ref_log_prob"] is not None:
            kind = case["kl_loss_type"]
            reference, plus = case["ref_log_prob"][rows], kind.endswith("+")
            kl = compute_approx_kl(new, reference, old, kl_estimator=kind.rstrip("+"), unbiased_gradient=plus)
            loss = loss + case["kl_loss_coef"] * aggregate_loss(kl, mask[rows], PER_TOKEN[mode], **info)
        total = total + loss / count  # DeepSpeed divides by the number of micro-batches
    return total
