"""Settings of the FSDP workers and the vLLM engines that verl reads late, ignores or cannot run with."""

from __future__ import annotations

from omegaconf import DictConfig

from reinforcepp_verl.config.reading import is_count, is_number, trainer_mode, value
from reinforcepp_verl.sizing.layout import ACTOR, ROLLOUT, Layout
from reinforcepp_verl.sizing.memory_estimate import BYTES, FSDP, RANKS

JUDGE = "reward.reward_model"
SERVERS = ("vllm", "sglang")


def check(config: DictConfig) -> list[str]:
    """Check single values, then the engines of the rollout and of the reward model."""
    found = [*_values(config), *_sleep(config), *_separate(config)]
    return [*found, *(_reward_model(config) if value(config, f"{JUDGE}.enable") else [])]


def _values(config: DictConfig) -> list[str]:
    bucket, batched = (
        f"{ROLLOUT}.checkpoint_engine.update_weights_bucket_megabytes",
        f"{ROLLOUT}.max_num_batched_tokens",
    )
    found = [
        f"{key} is {value(config, key)!r}: set {key} to an integer >= 1"
        for key in (bucket, batched)
        if not is_count(value(config, key))
    ]
    found += _share(config, f"{ROLLOUT}.gpu_memory_utilization")
    known = ", ".join(BYTES)
    for key in (f"{ROLLOUT}.dtype", f"{FSDP}.model_dtype"):
        given = value(config, key)
        if str(given) not in BYTES and not (given is None and key.endswith("model_dtype")):
            found.append(f"{key} is {given}: it must be one of {known}; set {key}=bfloat16")
    size, gpus = value(config, f"{FSDP}.fsdp_size"), Layout.of(config).gpus
    if size not in (None, -1) and not (is_count(size) and gpus % size == 0):
        found.append(f"{FSDP}.fsdp_size is {size}: it must divide the {gpus} workers; set {FSDP}.fsdp_size=-1 for all")
    found += [
        f"{key} is {rank}: it must be 0 or more; set {key}=0 to train all weights"
        for key in RANKS
        if (rank := value(config, key)) is not None and not (is_count(rank) or rank == 0)
    ]
    if value(config, f"{FSDP}.offload_policy") and value(config, f"{ACTOR}.strategy") == "fsdp":
        found.append(f"{FSDP}.offload_policy is true: only FSDP2 reads it; set {ACTOR}.strategy=fsdp2")
    return found


def _share(config: DictConfig, key: str) -> list[str]:
    share = value(config, key)
    if is_number(share) and 0 < share < 1:
        return []
    return [f"{key} is {share!r}: it must be a number between 0 and 1; set {key}=0.5"]


def _sleep(config: DictConfig) -> list[str]:
    if not value(config, f"{ROLLOUT}.free_cache_engine") or value(config, f"{ROLLOUT}.enable_sleep_mode"):
        return []
    return [
        f"{ROLLOUT}.enable_sleep_mode is false: without it the engine cannot free its cache; set "
        f"{ROLLOUT}.enable_sleep_mode=true, or {ROLLOUT}.free_cache_engine=false"
    ]


def _separate(config: DictConfig) -> list[str]:
    hybrid = "actor_rollout_ref.hybrid_engine"
    if trainer_mode(config) != "separate_async":
        if value(config, hybrid):
            return []
        return [f"{hybrid} is false: only separate_async can train without engines on its GPUs; set {hybrid}=true"]
    found = []
    gpus, engine = value(config, f"{ROLLOUT}.n_gpus_per_node"), Layout.of(config).engine
    if not is_count(gpus) or gpus * value(config, f"{ROLLOUT}.nnodes") % engine:
        found.append(
            f"{ROLLOUT}.n_gpus_per_node is {gpus}: the engines of separate_async take {engine} GPUs each; set "
            f"{ROLLOUT}.n_gpus_per_node to a multiple of {engine}"
        )
    if not value(config, hybrid):
        found.append(
            f"{hybrid} is false: verl 0.9.1 then stops with a TypeError when its engines are up (it hands `flush` to a "
            f"logger); set {hybrid}=true"
        )
    if value(config, f"{JUDGE}.enable") and not value(config, f"{JUDGE}.enable_resource_pool"):
        found.append(
            f"{JUDGE}.enable_resource_pool is false: separate_async never frees a GPU for the reward model; set "
            f"{JUDGE}.enable_resource_pool=true, with its nnodes and n_gpus_per_node"
        )
    return found


def _reward_model(config: DictConfig) -> list[str]:
    node = f"{JUDGE}.rollout"
    server, tensor_key = value(config, f"{node}.name"), f"{node}.tensor_model_parallel_size"
    found = _share(config, f"{node}.gpu_memory_utilization")
    if server not in SERVERS:
        found.append(f"{node}.name is {server}: no such engine serves a reward model; set {node}.name=vllm")
    gpus, tensor = _reward_gpus(config), value(config, tensor_key)
    if not is_count(tensor) or gpus % tensor:
        found.append(
            f"{tensor_key} is {tensor}: it must divide the {gpus} GPUs of the reward model; set {tensor_key}=1"
        )
    longest = value(config, "data.max_prompt_length") + value(config, "data.max_response_length")
    most = value(config, f"{node}.max_model_len")
    if most is not None and not (is_count(most) and most >= longest):
        found.append(
            f"{node}.max_model_len is {most}: it reads prompts with answers of up to {longest} tokens, and its chat "
            f"template's own; set {node}.max_model_len={2 * longest}"
        )
    return found


def _reward_gpus(config: DictConfig) -> int:
    if not value(config, f"{JUDGE}.enable_resource_pool"):
        return Layout.of(config).gpus
    return (value(config, f"{JUDGE}.nnodes") or 0) * (value(config, f"{JUDGE}.n_gpus_per_node") or 0)
