"""Whether the model fits into the configured GPU, and which settings would make it fit."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig, OmegaConf

from reinforcepp_verl.common.hardware import GIB
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.preflight_options import MEMORY_ESTIMATE
from reinforcepp_verl.config.reading import is_number, value
from reinforcepp_verl.preflight.findings import Found, PreflightWarning
from reinforcepp_verl.sizing.gpu import model_and_gpu_size
from reinforcepp_verl.sizing.layout import ParallelLayout, max_sequence_length, needs_reference
from reinforcepp_verl.sizing.memory_estimate import MemoryEstimate, estimate
from reinforcepp_verl.sizing.model_size import ModelSize

Change = dict[str, object]
UTILIZATIONS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)


def check(config: DictConfig) -> Found:
    """Warn of a configuration that may not fit; skipped if the size of the GPU or the model is unknown."""
    given = value(config, keys.GPU_MEMORY_GIB)
    if given is not None and not (is_number(given) and given > 0):
        return [
            f"{keys.GPU_MEMORY_GIB} is {given!r}: set it to the memory of one GPU in GiB, or to null to detect it on "
            "this machine"
        ]
    known = model_and_gpu_size(config)
    if known is None:
        return []
    model, gpu_gib = known
    found = estimate(config, model, gpu_gib)
    return [] if found.fits else [PreflightWarning(MEMORY_ESTIMATE, _misfit(config, found, model, gpu_gib))]


def _misfit(config: DictConfig, found: MemoryEstimate, model: ModelSize, gpu_gib: float) -> str:
    if found.too_large:
        worst = max(found.too_large, key=lambda phase: phase.bytes)
        parts = " + ".join(f"{part / GIB:.1f} {name}" for name, part in worst.parts.items())
        what = f"the phase {worst.name} needs about {worst.bytes / GIB:.0f} GiB per GPU ({parts})"
    else:
        what = (
            f"{keys.GPU_MEMORY_UTILIZATION}={value(config, keys.GPU_MEMORY_UTILIZATION)} leaves room for "
            f"{found.kv_tokens} tokens of KV cache, but one sequence may have {found.longest_sequence}"
        )
    change = _what_fits(config, model, gpu_gib)
    fix = (
        "set " + " ".join(f"{key}={new}" for key, new in change.items())
        if change
        else f"no setting makes it fit: use more GPUs ({keys.N_GPUS_PER_NODE}, {keys.NNODES}), adapters "
        f"({keys.LORA_RANK}=32) or a larger GPU"
    )
    return f"{keys.GPU_MEMORY_GIB} is {gpu_gib:.0f}: {value(config, keys.MODEL_PATH)} may not fit: {what}; {fix}"


def _what_fits(config: DictConfig, model: ModelSize, gpu_gib: float) -> Change:
    """Return the first change that makes it fit, ordered by cost in speed, with the engine's memory share it needs."""
    given = value(config, keys.GPU_MEMORY_UTILIZATION)
    shares = [given, *(share for share in UTILIZATIONS if share != given)]
    for change in _changes(config):
        for share in shares:
            tried = {**change, **({} if share == given else {keys.GPU_MEMORY_UTILIZATION: share})}
            trial = config.copy()
            for key, new in tried.items():
                OmegaConf.update(trial, key, new, force_add=True)
            if estimate(trial, model, gpu_gib).fits:
                return tried
    return {}


def _changes(config: DictConfig) -> Iterator[Change]:
    """Yield the settings to try before using a larger GPU."""
    offloaded: Change = {keys.PARAM_OFFLOAD: True, keys.OPTIMIZER_OFFLOAD: True}
    streamed: Change = {keys.ACTOR_STRATEGY: "fsdp2", keys.OFFLOAD_POLICY: True}
    smaller = list(_smaller_micro_batches(config))
    yield {}
    yield from smaller
    for state in (offloaded, streamed):
        yield state
        yield from ({**state, **change} for change in smaller)


def _smaller_micro_batches(config: DictConfig) -> Iterator[Change]:
    passes = [keys.ROLLOUT, *([keys.REF] if needs_reference(config) else [])]
    if not value(config, keys.ACTOR_USE_DYNAMIC_BSZ):
        sizes = [keys.ACTOR_PPO_MICRO_BATCH_SIZE_PER_GPU, *(f"{p}.log_prob_micro_batch_size_per_gpu" for p in passes)]
        yield dict.fromkeys(sizes, 1)
        return
    budgets = [keys.ACTOR_PPO_MAX_TOKEN_LEN_PER_GPU, *(f"{node}.log_prob_max_token_len_per_gpu" for node in passes)]
    given = {key: value(config, key) for key in budgets}
    least = -(-max_sequence_length(config) // ParallelLayout.from_config(config).sequence_parallel)
    tokens = max(given.values())
    while (tokens := tokens // 2) >= least:
        yield {key: tokens for key in budgets if given[key] > tokens}
