"""Whether the model fits into the GPU that the configuration names, and which settings would make it fit."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig, OmegaConf

from reinforcepp_verl.config.reading import is_number, value
from reinforcepp_verl.sizing.gpu import GPU, MODEL, sized
from reinforcepp_verl.sizing.layout import ACTOR, ROLLOUT, Layout, longest, needs_reference
from reinforcepp_verl.sizing.memory_estimate import FSDP, GIB, MemoryEstimate, estimate
from reinforcepp_verl.sizing.model_size import ModelSize

REFERENCE = "actor_rollout_ref.ref"
UTILIZATION = f"{ROLLOUT}.gpu_memory_utilization"
Change = dict[str, object]
SHARES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)


def check(config: DictConfig) -> list[str]:
    """Refuse what cannot fit; a GPU or a model whose size is unknown here is not judged."""
    given = value(config, GPU)
    if given is not None and not (is_number(given) and given > 0):
        return [f"{GPU} is {given!r}: set it to the memory of one GPU in GiB, or to null to ask this machine's"]
    known = sized(config)
    if known is None:
        return []
    model, gpu_gib = known
    found = estimate(config, model, gpu_gib)
    return [] if found.fits else [_misfit(config, found, model, gpu_gib)]


def _misfit(config: DictConfig, found: MemoryEstimate, model: ModelSize, gpu_gib: float) -> str:
    if found.too_large:
        worst = max(found.too_large, key=lambda phase: phase.bytes)
        parts = " + ".join(f"{part / GIB:.1f} {name}" for name, part in worst.parts.items())
        what = f"the phase {worst.name} needs about {worst.bytes / GIB:.0f} GiB a GPU ({parts})"
    else:
        what = (
            f"{UTILIZATION}={value(config, UTILIZATION)} leaves room for {found.kv_tokens} tokens of KV cache, and one "
            f"sequence may have {found.longest_sequence}"
        )
    change = _what_fits(config, model, gpu_gib)
    fix = (
        "set " + " ".join(f"{key}={new}" for key, new in change.items())
        if change
        else "no setting makes it fit: use more GPUs (trainer.n_gpus_per_node, trainer.nnodes), adapters "
        "(actor_rollout_ref.model.lora_rank=32) or a larger GPU"
    )
    return f"{GPU} is {gpu_gib:.0f}: {value(config, MODEL)} does not fit: {what}; {fix}"


def _what_fits(config: DictConfig, model: ModelSize, gpu_gib: float) -> Change:
    """Return the first change that makes it fit, the cheapest in speed first, with the engine's share that it needs."""
    given = value(config, UTILIZATION)
    shares = [given, *(share for share in SHARES if share != given)]
    for change in _changes(config):
        for share in shares:
            tried = {**change, **({} if share == given else {UTILIZATION: share})}
            trial = config.copy()
            for key, new in tried.items():
                OmegaConf.update(trial, key, new, force_add=True)
            if estimate(trial, model, gpu_gib).fits:
                return tried
    return {}


def _changes(config: DictConfig) -> Iterator[Change]:
    """Yield the settings that one would try before buying a larger GPU."""
    offloaded: Change = {f"{FSDP}.param_offload": True, f"{FSDP}.optimizer_offload": True}
    streamed: Change = {f"{ACTOR}.strategy": "fsdp2", f"{FSDP}.offload_policy": True}
    smaller = list(_smaller_micro_batches(config))
    yield {}
    yield from smaller
    for state in (offloaded, streamed):
        yield state
        yield from ({**state, **change} for change in smaller)


def _smaller_micro_batches(config: DictConfig) -> Iterator[Change]:
    passes = [ROLLOUT, *([REFERENCE] if needs_reference(config) else [])]
    if not value(config, f"{ACTOR}.use_dynamic_bsz"):
        keys = [f"{ACTOR}.ppo_micro_batch_size_per_gpu", *(f"{p}.log_prob_micro_batch_size_per_gpu" for p in passes)]
        yield dict.fromkeys(keys, 1)
        return
    keys = [f"{ACTOR}.ppo_max_token_len_per_gpu", *(f"{node}.log_prob_max_token_len_per_gpu" for node in passes)]
    given = {key: value(config, key) for key in keys}
    least, tokens = -(-longest(config) // Layout.of(config).sequence_parallel), max(given.values())
    while (tokens := tokens // 2) >= least:
        yield {key: tokens for key in keys if given[key] > tokens}
