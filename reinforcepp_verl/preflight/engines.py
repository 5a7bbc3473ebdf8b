"""Settings of the FSDP workers and the vLLM engines that verl reads late, ignores or does not support."""

from __future__ import annotations

from omegaconf import DictConfig

from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import is_count, trainer_mode, value
from reinforcepp_verl.sizing.layout import ParallelLayout
from reinforcepp_verl.sizing.memory_estimate import BYTES_PER_ELEMENT

REWARD_MODEL_ENGINES = ("vllm", "sglang")


def check(config: DictConfig) -> list[str]:
    """Check single values, then the engines of the rollout and of the reward model."""
    found = [*_name(config), *_values(config), *_executor(config), *_sleep(config), *_separate(config)]
    return [*found, *(_reward_model(config) if value(config, keys.REWARD_MODEL_ENABLE) else [])]


def _name(config: DictConfig) -> list[str]:
    name = value(config, keys.ROLLOUT_NAME)
    if name == "vllm" or value(config, keys.DEVICE) != "cpu":
        return []
    return [f"{keys.ROLLOUT_NAME} is {name}: only vLLM runs on a CPU; set {keys.ROLLOUT_NAME}=vllm"]


def _values(config: DictConfig) -> list[str]:
    found = []
    known = ", ".join(BYTES_PER_ELEMENT)
    for key in (keys.ROLLOUT_DTYPE, keys.MODEL_DTYPE):
        given = value(config, key)
        if str(given) not in BYTES_PER_ELEMENT and not (given is None and key == keys.MODEL_DTYPE):
            found.append(f"{key} is {given}: it must be one of {known}; set {key}=bfloat16")
    longest, kept = value(config, keys.MAX_PROMPT_LENGTH), value(config, keys.ROLLOUT_PROMPT_LENGTH)
    if kept < longest:
        found.append(
            f"{keys.ROLLOUT_PROMPT_LENGTH} is {kept}: prompts of up to {longest} tokens would lose their beginning; "
            f"remove it, and set only {keys.MAX_PROMPT_LENGTH}"
        )
    size, gpus = value(config, keys.FSDP_SIZE), ParallelLayout.from_config(config).gpus
    if size not in (None, -1) and not (is_count(size) and gpus % size == 0):
        found.append(f"{keys.FSDP_SIZE} is {size}: it must divide the {gpus} workers; set {keys.FSDP_SIZE}=-1 for all")
    if value(config, keys.OFFLOAD_POLICY) and value(config, keys.ACTOR_STRATEGY) == "fsdp":
        found.append(f"{keys.OFFLOAD_POLICY} is true: only FSDP2 reads it; set {keys.ACTOR_STRATEGY}=fsdp2")
    return found


def _executor(config: DictConfig) -> list[str]:
    """Check vLLM's single-process executor, which cluster/cpu.yaml sets, against an engine of several workers."""
    key, workers = keys.DISTRIBUTED_EXECUTOR_BACKEND, ParallelLayout.from_config(config).engine
    if value(config, key) != "uni" or workers == 1:
        return []
    return [f"{key} is uni: an engine of {workers} workers needs a process for each; set {key}=mp"]


def _sleep(config: DictConfig) -> list[str]:
    if not value(config, keys.FREE_CACHE_ENGINE) or value(config, keys.ENABLE_SLEEP_MODE):
        return []
    return [
        f"{keys.ENABLE_SLEEP_MODE} is false: without it the engine cannot free its cache; set "
        f"{keys.ENABLE_SLEEP_MODE}=true, or {keys.FREE_CACHE_ENGINE}=false"
    ]


def _separate(config: DictConfig) -> list[str]:
    hybrid = keys.HYBRID_ENGINE
    if trainer_mode(config) != "separate_async":
        if value(config, hybrid):
            return []
        return [f"{hybrid} is false: only separate_async can train without engines on the same GPUs; set {hybrid}=true"]
    found = []
    gpus, engine = value(config, keys.ROLLOUT_N_GPUS_PER_NODE), ParallelLayout.from_config(config).engine
    if not is_count(gpus) or gpus * value(config, keys.ROLLOUT_NNODES) % engine:
        found.append(
            f"{keys.ROLLOUT_N_GPUS_PER_NODE} is {gpus}: the engines of separate_async need {engine} GPUs each; set "
            f"{keys.ROLLOUT_N_GPUS_PER_NODE} to a multiple of {engine}"
        )
    if not value(config, hybrid):
        found.append(
            f"{hybrid} is false: verl 0.9.1 then stops with a TypeError once its engines are up (it passes `flush` to "
            f"a logger); set {hybrid}=true"
        )
    if value(config, keys.REWARD_MODEL_ENABLE) and not value(config, keys.REWARD_MODEL_ENABLE_RESOURCE_POOL):
        found.append(
            f"{keys.REWARD_MODEL_ENABLE_RESOURCE_POOL} is false: separate_async never frees a GPU for the reward "
            f"model; set {keys.REWARD_MODEL_ENABLE_RESOURCE_POOL}=true, with its nnodes and n_gpus_per_node"
        )
    return found


def _reward_model(config: DictConfig) -> list[str]:
    server, tensor_key = value(config, keys.REWARD_MODEL_ROLLOUT_NAME), keys.REWARD_MODEL_TENSOR_MODEL_PARALLEL_SIZE
    found = []
    if server not in REWARD_MODEL_ENGINES:
        found.append(
            f"{keys.REWARD_MODEL_ROLLOUT_NAME} is {server}: this engine cannot serve a reward model; set "
            f"{keys.REWARD_MODEL_ROLLOUT_NAME}=vllm"
        )
    gpus, tensor = _reward_gpus(config), value(config, tensor_key)
    if not is_count(tensor) or gpus % tensor:
        found.append(
            f"{tensor_key} is {tensor}: it must divide the {gpus} GPUs of the reward model; set {tensor_key}=1"
        )
    if value(config, keys.REWARD_MODEL_ENABLE_RESOURCE_POOL) and value(config, keys.REWARD_MODEL_FREE_CACHE_ENGINE):
        found.append(
            f"{keys.REWARD_MODEL_FREE_CACHE_ENGINE} is true: verl puts the reward model to sleep at the start, and on "
            f"GPUs of its own never wakes it; set {keys.REWARD_MODEL_FREE_CACHE_ENGINE}=false"
        )
    longest = value(config, keys.MAX_PROMPT_LENGTH) + value(config, keys.MAX_RESPONSE_LENGTH)
    most = value(config, keys.REWARD_MODEL_MAX_MODEL_LEN)
    if most is not None and not (is_count(most) and most >= longest):
        found.append(
            f"{keys.REWARD_MODEL_MAX_MODEL_LEN} is {most}: prompt and answer have up to {longest} tokens, plus those "
            f"of its chat template; set {keys.REWARD_MODEL_MAX_MODEL_LEN}={2 * longest}"
        )
    return found


def _reward_gpus(config: DictConfig) -> int:
    if not value(config, keys.REWARD_MODEL_ENABLE_RESOURCE_POOL):
        return ParallelLayout.from_config(config).gpus
    return (value(config, keys.REWARD_MODEL_NNODES) or 0) * (value(config, keys.REWARD_MODEL_N_GPUS_PER_NODE) or 0)
