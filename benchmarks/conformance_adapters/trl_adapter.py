"""TRL: RLOOTrainer with `normalize_advantages`, GRPOTrainer with `scale_rewards="batch"`.

The trainers' own methods `_generate_and_score_completions` and `_compute_loss`, unchanged, on an object made without
`__init__`: generation, reward functions and forward pass return the answers, scores and log-probabilities of the case.
TRL has no estimator of this name; these two are the nearest. Both need two or more answers per prompt, so most cases of
the plain estimator do not apply.
"""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer

LOSS_TYPES = {
    "token-mean": "dapo",
    "seq-mean-token-mean": "grpo",
    "seq-mean-token-sum": "luspo",
    "seq-mean-token-sum-norm": "dr_grpo",
}


def rloo(case: dict[str, Any]) -> dict[str, Any]:
    """Compute a case with RLOOTrainer."""
    if case["kind"] == "policy_loss":
        return {"loss": _rloo_loss(case)}
    if (case["response_mask"].diff(dim=-1) > 0).any():
        raise NotImplementedError("RLOOTrainer has no tool output")
    trainer = _stand_in(RLOOTrainer, case, beta=case["kl_coef"], normalize_advantages=True)
    trainer.reward_clip_range = case["reward_clip"]
    return _advantages(trainer, case)


def grpo(case: dict[str, Any]) -> dict[str, Any]:
    """Compute a case with GRPOTrainer."""
    if case["kind"] == "policy_loss":
        return {"loss": _grpo_loss(case)}
    if case["ref_log_prob"] is not None or case["reward_clip"] is not None:
        raise NotImplementedError("GRPOTrainer has neither a KL in the reward nor a reward clip")
    trainer = _stand_in(GRPOTrainer, case, beta=0.0, scale_rewards="batch")
    return _advantages(trainer, case)


def _advantages(trainer: Any, case: dict[str, Any]) -> dict[str, Any]:
    if (case["token_level_scores"] != 0).sum(-1).max() > 1:
        raise NotImplementedError("a reward is one number per answer")
    group = case["group"].tolist()
    if len(set(case["session"].tolist())) < len(group):
        raise NotImplementedError("an answer is one row")
    sizes = {group.count(prompt) for prompt in group}
    if len(sizes) > 1 or sizes == {1}:
        raise NotImplementedError("all prompts have num_generations answers, two or more")
    # TRL expects the answers of a prompt next to each other.
    order = torch.argsort(case["group"], stable=True)
    trainer.num_generations = sizes.pop()
    trainer.rows = order
    found = trainer._generate_and_score_completions([{"prompt": "p"} for _ in group])["advantages"]
    advantages = torch.empty_like(found)
    advantages[order] = found
    return {"advantages": advantages.unsqueeze(-1).expand(case["response_mask"].shape)}


def _stand_in(trainer_class: type, case: dict[str, Any], *, beta: float, **settings: Any) -> Any:
    """A trainer that was not initialized, with what the methods under test read."""

    class StandIn(trainer_class):  # type: ignore[misc, valid-type]
        def _generate(self, prompts: list[str]) -> tuple[Any, ...]:
            mask = case["response_mask"][self.rows]
            width = [int(row.nonzero().max()) + 1 if row.any() else len(row) for row in mask]
            answers = [[1] * n for n in width]
            tools = [row[:n].tolist() for row, n in zip(mask, width, strict=True)]
            if trainer_class is RLOOTrainer:
                if not mask.any(-1).all():
                    raise NotImplementedError("RLOOTrainer has no rejected answers")
                return [[0]] * len(mask), answers, [""] * len(mask)
            return [[0]] * len(mask), answers, tools, [""] * len(mask), None, {}, None, None

        def _calculate_rewards(self, *_: Any) -> Tensor:
            return case["token_level_scores"][self.rows].sum(-1, keepdim=True).float()

        def _get_per_token_logps_and_entropies(self, model: Any, *_: Any, **__: Any) -> tuple[Any, ...]:
            rows, width = self.rows, self.width
            if model is self.ref_model:
                return case["ref_log_prob"][rows][:, :width], None, None
            name = "log_prob" if case["kind"] == "policy_loss" else "old_log_prob"
            values = case.get(name)
            # Not read by the advantages unless there is a KL.
            values = torch.zeros(case["response_mask"].shape) if values is None else values
            return values[rows][:, :width], torch.zeros_like(values[rows][:, :width]), None

    made = object.__new__(StandIn)
    model = SimpleNamespace(training=True, is_gradient_checkpointing=False)
    args = SimpleNamespace(
        per_device_train_batch_size=1,
        gradient_checkpointing_kwargs=None,
        gradient_accumulation_steps=1,
        steps_per_generation=1,
        delta=case.get("clip_ratio_c"),
        use_bias_correction_kl=False,
    )
    width = case["response_mask"].any(0).nonzero().max().item() + 1
    attributes = {
        **{"accelerator": Accelerator(cpu=True), "model": model, "ref_model": object(), "args": args, "beta": beta},
        **{"_tokenizer": SimpleNamespace(pad_token_id=0), "pad_to_multiple_of": None, "width": width},
        **{"reward_weights": torch.ones(1), "reward_func_names": ["reward"], "reward_funcs": [None]},
        **{"mask_truncated_completions": False, "num_iterations": 1, "use_vllm": False, "tools": None},
        **{"environment_factories": None, "environments": None, "log_multimodal": False},
        **{"multi_objective_aggregation": "sum_then_normalize", "aux_loss_enabled": False},
        **{"_metrics": {"train": defaultdict(list)}, "_logs": defaultdict(list, rewards=defaultdict(list))},
        **{"_pending_extra_logs": {}, "_pending_metrics": {}, **settings},
    }
    vars(made).update(attributes)
    return made


def _loss_inputs(case: dict[str, Any], rows: list[int]) -> dict[str, Any]:
    mask = case["response_mask"][rows]
    return {
        "prompt_ids": torch.zeros(len(rows), 1, dtype=torch.long),
        "prompt_mask": torch.ones(len(rows), 1, dtype=torch.long),
        "completion_ids": torch.ones_like(mask),
        "completion_mask": mask,
        "num_items_in_batch": case["response_mask"].sum(),
    }


def _grpo_loss(case: dict[str, Any]) -> Tensor:
    mode = case["loss_agg_mode"]
    if mode not in LOSS_TYPES:
        raise NotImplementedError(f"loss_type has no {mode}")
    if case["ref_log_prob"] is not None and case["kl_loss_type"] != "k3":
        raise NotImplementedError("the KL loss is k3")
    micro_batches = case["micro_batches"] or [list(range(len(case["response_mask"])))]
    trainer = _stand_in(GRPOTrainer, case, beta=case["kl_loss_coef"], loss_type=LOSS_TYPES[mode])
    trainer.epsilon_low, trainer.epsilon_high = case["clip_ratio_low"], case["clip_ratio_high"]
    trainer.top_entropy_quantile, trainer.off_policy_mask_threshold = 1.0, None
    trainer.importance_sampling_level, trainer._entropy_bonus_enabled = "token", False
    trainer.width = trainer.max_completion_length = case["response_mask"].shape[1]
    trainer.current_gradient_accumulation_steps = trainer.args.steps_per_generation = len(micro_batches)
    total = torch.zeros((), dtype=torch.float64)
    for rows in micro_batches:
        trainer.rows = rows
        inputs = _loss_inputs(case, rows) | {
            "advantages": case["advantages"][rows],
            "old_per_token_logps": case["old_log_prob"][rows],
        }
        if case["ref_log_prob"] is not None:
            inputs["ref_per_token_logps"] = case["ref_log_prob"][rows]
        total = total + trainer._compute_loss(trainer.model, inputs)
    return total


def _rloo_loss(case: dict[str, Any]) -> Tensor:
    valid = case["response_mask"].bool()
    advantages = case["advantages"].masked_fill(~valid, 0).sum(-1) / valid.sum(-1).clamp(min=1)
    if ((case["advantages"] - advantages.unsqueeze(-1))[valid].abs() > 1e-12).any():
        raise NotImplementedError("RLOOTrainer has one advantage per answer")
    if case["ref_log_prob"] is not None or case["clip_ratio_c"] is not None:
        raise NotImplementedError("RLOOTrainer has neither a KL loss nor a dual clip")
    if case["loss_agg_mode"] != "seq-mean-token-mean":
        raise NotImplementedError("RLOOTrainer averages over answers")
    trainer = _stand_in(RLOOTrainer, case, beta=0.0)
    trainer.epsilon_low, trainer.epsilon_high = case["clip_ratio_low"], case["clip_ratio_high"]
    trainer.width = case["response_mask"].shape[1]
    micro_batches = case["micro_batches"] or [list(range(len(valid)))]
    total = torch.zeros((), dtype=torch.float64)
    for rows in micro_batches:
        trainer.rows = rows
        old = (case["old_log_prob"][rows] * valid[rows]).sum(-1)
        inputs = _loss_inputs(case, rows) | {"advantages": advantages[rows], "old_logps": old}
        # The Trainer of transformers divides by the number of micro-batches.
        total = total + trainer._compute_loss(trainer.model, inputs) / len(micro_batches)
    return total
