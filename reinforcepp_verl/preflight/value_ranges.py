"""The valid range of every number that a configuration takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatch

from reinforcepp_verl.config import keys

LARGEST = 2**63 - 1
"""The largest integer that torch, Ray and vLLM can store."""
LARGEST_SEED = 2**31 - 1
"""vLLM seeds NumPy with the seed plus a rank, which must be below 2**32."""


@dataclass(frozen=True)
class Range:
    """The valid numbers of the keys that match a pattern; `fix` is suggested by a message, `note` explains a number."""

    pattern: str
    low: float = -math.inf
    high: float = math.inf
    low_is_valid: bool = True
    high_is_valid: bool = True
    fix: object = None
    note: str = ""

    def contains(self, number: float) -> bool:
        """Return True for a valid number; NaN and infinity never are."""
        if not (math.isfinite(number) and -LARGEST <= number <= LARGEST and self.low <= number <= self.high):
            return False
        return (number != self.low or self.low_is_valid) and (number != self.high or self.high_is_valid)

    def described(self, whole: bool) -> str:
        """Return "an integer >= 1", "a number from 0 to 1" and so on."""
        noun = "an integer" if whole else "a number" if math.isfinite(self.low + self.high) else "a finite number"
        if self.low_is_valid and self.high_is_valid and math.isfinite(self.low + self.high):
            return f"{noun} from {_text(self.low)} to {_text(self.high)}"
        low = [] if self.low == -math.inf else [f"{'>=' if self.low_is_valid else '>'} {_text(self.low)}"]
        high = [] if self.high == math.inf else [f"{'<=' if self.high_is_valid else '<'} {_text(self.high)}"]
        return " ".join([noun, *" and ".join([*low, *high]).split()])


def _text(bound: float) -> str:
    return str(int(bound)) if bound == int(bound) else f"{bound:g}"


def _each(
    patterns: str,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    fix: object = None,
    open_low: bool = False,
    note: str = "",
) -> list[Range]:
    return [Range(pattern, low, high, low_is_valid=not open_low, fix=fix, note=note) for pattern in patterns.split()]


# The first match counts.
RANGES = (
    # the update
    *_each("*.optim.lr *.lr_min *.lr_start", 0, 1, fix=1e-6),
    *_each("*.lr_warmup_steps_ratio *.min_lr_ratio *.lr_decay_ratio", 0, 1),
    *_each("*.weight_decay", 0, 1, fix=0.01),
    *_each("*.num_cycles", 0),
    Range("*.betas", 0, 1, high_is_valid=False, fix="[0.9,0.999]"),
    *_each("*.clip_grad *.grad_clip", 0, fix=1.0, open_low=True),
    *_each("*.clip_ratio_c", 1, fix="3.0, or null", open_low=True),
    *_each("*.clip_ratio *.clip_ratio_low *.clip_ratio_high", 0, fix=0.2),
    *_each("*.cliprange_value", 0, fix=0.5),
    *_each("*.tau_pos *.tau_neg", 0, open_low=True),
    *_each("*.clip_cov_ratio *.kl_cov_ratio", 0, 1),
    *_each("*.clip_cov_lb *.clip_cov_ub *.entropy_coeff"),
    *_each("*.ppo_kl_coef *.kl_coef *.kl_loss_coef", 0, fix=0.001),
    *_each("*.dro_beta *.loss_scale_factor *.target_kl", 0, open_low=True),
    *_each("*.gamma *.lam", 0, 1, fix=1.0),
    *_each("*.rollout_is_threshold *.rollout_rs_threshold", 0, fix=2.0, open_low=True),
    *_each("*.rollout_gate.limit", 0, fix=0.003),
    *_each("*.pf_ppo.weight_pow", 0),
    *_each("*.horizon", 1),
    *_each("*.ppo_epochs", 1, 1000, fix=1),
    *_each("*.optim.total_training_steps *.lr_warmup_steps", -1, fix=-1),
    # sampling; vLLM allows temperatures up to 2
    *_each("*.temperature", 0, 2, fix=1.0),
    *_each("*.top_p", 0, 1, fix=1.0, open_low=True),
    *_each("*.top_k", -1, fix=-1),
    *_each("*.repetition_penalty", 0, fix=1.0, open_low=True),
    *_each("*.rollout.n *.val_kwargs.n *.rollout_n", 1, 65536),
    *_each("*.over_sample_rate", 0, 1),
    *_each("seed *.seed *.data_loader_seed", 0, LARGEST_SEED, fix=1),
    # engines and workers
    Range("*gpu_memory_utilization", 0, 1, low_is_valid=False, high_is_valid=False, fix=0.5),
    *_each("*.fsdp_size", -1, fix=-1),
    *_each("*.min_num_params *.lora_rank *.lora.rank", 0, fix=0),
    *_each("*.lora_alpha *.lora.alpha", 0, fix=16, open_low=True),
    *_each("*.lora.dropout *.mtp_loss_scaling_factor", 0, 1),
    *_each("*.limit_images *.moe_load_balance_metrics_interval *.max_samples_per_step_per_worker", 0),
    *_each("*.port *.bootstrap_port", 0, 65535),
    *_each("*.rollout.nnodes *.rollout.n_gpus_per_node *.reward_model.nnodes *.reward_model.n_gpus_per_node", 0),
    *_each("distillation.nn* distillation.n_g*", 0),
    *_each("*.num_replicas *.critic_warmup *.log_val_generations", 0),
    *_each("*.num_workers *.filter_overlong_prompts_workers", 1, 65536),
    *_each(keys.DATALOADER_NUM_WORKERS, 0, 65536),
    *_each("*.nccl_timeout *.esi_redundant_time *.ray_wait_register_center_timeout", 0),
    *_each("*.ray_init.*", 0),
    # data and length
    *_each("*.train_max_samples *.val_max_samples", -1, note=" (-1: all)"),
    *_each("*.save_freq *.test_freq", -1, note=" (steps between two; -1: never)"),
    *_each("*.max_num_gen_batches"),
    *_each("*.total_training_steps", 1),
    # asynchronous training, distillation
    *_each("*.switch_threshold_ratio", 0, 1, fix=0.4, open_low=True),
    *_each("*.switch_threshold_step_up *.switch_threshold_step_down", 0, 1),
    *_each("*.num_warmup_batches *.switch_threshold_release_steps", 0),
    *_each("*.distillation_loss_coef", 0),
    *_each("*.loss_max_clamp *.log_prob_min_clamp"),
    # profiling
    *_each("*.schedule.* *.steps *ranks *.trace_alloc_max_entries *.stack_depth", 0),
    *_each("*.memory_snapshot_num_steps *.profile_token_*", 0),
    # ours; their classes refuse more
    *_each("*.sampler_kwargs.*_s", 0, open_low=True),
    *_each("*.sampler_kwargs.max_failed_fraction", 0, 1),
    *_each(f"{keys.SAMPLES}.groups_per_step {keys.SAMPLES}.console_every", 0, fix=0),
    *_each(f"{keys.SAMPLES}.max_megabytes", 0, fix=256, open_low=True),
    *_each(f"{keys.SAMPLES}.*", 1),
    *_each("guards.* hardware.* *.reinforcepp.*"),
)
# Sizes and counts, by their names.
COUNTS = (
    *("*batch_size*", "*_length", "*_len*", "*token_len*", "*parallel_size", "*nnodes", "*n_gpus_per_node", "*epochs"),
    *("*chunk_size", "*_bucket", "*group_size", "*batched_tokens", "*max_num_seqs", "*capture_sizes", "*megabytes"),
    *("*_turns", "*parallel_calls", "*num_repeat_rollouts", "*num_shards", "*patch_size", "*num_steps", "*topk"),
    *("*_tokens", "*_replicas", "*ckpt_to_keep", "*max_concurrent", "*memory_limit_mb", "*storage*", "*segment_size"),
    *("*block_size", "*buffer_size", "*sync_step", "*threshold", "*inflight_gen_batches", "*window_size"),
)


def range_of(key: str) -> Range | None:
    """Return the range of a key, None if the table has none."""
    for known in RANGES:
        if fnmatch(key, known.pattern):
            return known
    return Range(key, 1) if any(fnmatch(key, pattern) for pattern in COUNTS) else None
