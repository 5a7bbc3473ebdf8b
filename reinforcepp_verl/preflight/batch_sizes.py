"""Batch sizes that do not divide as verl 0.9.1 requires; verl fails at the first step, after the models are loaded.

The rules are those of `train_mini_batch`, `prepare_micro_batches` and the v1 trainers, for the FSDP engines.
"""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig

from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import is_count, trainer_mode, value
from reinforcepp_verl.sizing.layout import ParallelLayout, max_sequence_length, needs_reference

LOSSES_OF_ONE_MICRO_BATCH = ("geo_mean",)
"""verl's losses that average over a micro-batch and are then added up, so that the gradient grows with their number."""
LOG_PROB_MICRO_BATCH_KEYS = (keys.ROLLOUT_LOG_PROB_MICRO_BATCH_SIZE_PER_GPU, keys.REF_LOG_PROB_MICRO_BATCH_SIZE_PER_GPU)


def check(config: DictConfig) -> list[str]:
    """Check that the sizes of micro-batches are set, and only then that the sizes are compatible."""
    missing = [key for key in _micro_batch_keys(config) if value(config, key) is None]
    if missing:
        return [_missing(key) for key in missing]
    found = [*_separate_async(config), *_workers(config)]
    if found or value(config, keys.ACTOR_STRATEGY) not in ("fsdp", "fsdp2"):
        return found
    sizes = [*_mini_batches(config, keys.ACTOR), *_critic(config), *_log_probs(config), *_token_budgets(config)]
    return sizes or _one_micro_batch(config)


def _missing(key: str) -> str:
    # The switches of rollout and reference refer to the actor's.
    switch = keys.CRITIC_USE_DYNAMIC_BSZ if key.startswith(f"{keys.CRITIC}.") else keys.ACTOR_USE_DYNAMIC_BSZ
    return f"{key} is None: set {key} to an integer >= 1, or {switch}=true, which fills micro-batches by tokens"


def _micro_batch_keys(config: DictConfig) -> Iterator[str]:
    """Yield the micro-batch sizes that verl will use; their variants without `_per_gpu` are obsolete."""
    if not value(config, keys.ACTOR_USE_DYNAMIC_BSZ):
        yield keys.ACTOR_PPO_MICRO_BATCH_SIZE_PER_GPU
    if not value(config, keys.ROLLOUT_LOG_PROB_USE_DYNAMIC_BSZ):
        yield keys.ROLLOUT_LOG_PROB_MICRO_BATCH_SIZE_PER_GPU
    if needs_reference(config) and not value(config, keys.REF_LOG_PROB_USE_DYNAMIC_BSZ):
        yield keys.REF_LOG_PROB_MICRO_BATCH_SIZE_PER_GPU
    if value(config, keys.CRITIC_ENABLE):
        if not value(config, keys.CRITIC_USE_DYNAMIC_BSZ):
            yield keys.CRITIC_PPO_MICRO_BATCH_SIZE_PER_GPU


def _update_batch(config: DictConfig) -> int:
    """Return the number of prompts per round of updates: separate_async splits the batch into parts."""
    mode = trainer_mode(config)
    parts = value(config, f"{keys.TRAINER_V1}.{mode}.parameter_sync_step") or 1
    return value(config, keys.TRAIN_BATCH_SIZE) // parts


def _separate_async(config: DictConfig) -> list[str]:
    if trainer_mode(config) != "separate_async":
        return []
    found = []
    step_key, mini_key = keys.PARAMETER_SYNC_STEP, keys.ACTOR_PPO_MINI_BATCH_SIZE
    batch, step, mini = value(config, keys.TRAIN_BATCH_SIZE), value(config, step_key), value(config, mini_key)
    if not is_count(step) or batch != step * mini:
        found.append(
            f"{keys.TRAIN_BATCH_SIZE} is {batch}: separate_async needs {step_key} ({step}) x {mini_key} ({mini}); "
            f"set {keys.TRAIN_BATCH_SIZE}={step * mini if is_count(step) else mini}"
        )
    if not is_count(value(config, keys.ROLLOUT_NNODES)):
        found.append(f"{keys.ROLLOUT_NNODES} is {value(config, keys.ROLLOUT_NNODES)}: separate_async needs 1 or more")
    if value(config, keys.CHECKPOINT_ENGINE_BACKEND) == "naive":
        found.append(f"{keys.CHECKPOINT_ENGINE_BACKEND} is naive: separate_async needs another; set it to nccl")
    return found


def _workers(config: DictConfig) -> list[str]:
    found = []
    layout, tensor_key = ParallelLayout.from_config(config), keys.TENSOR_MODEL_PARALLEL_SIZE
    gpus, engine, parallel = layout.gpus, layout.engine, layout.sequence_parallel
    if gpus % engine and trainer_mode(config) != "separate_async":
        found.append(
            f"{tensor_key} is {value(config, tensor_key)}: an engine needs {engine} GPUs, which does not divide "
            f"{keys.NNODES} x {keys.N_GPUS_PER_NODE} ({gpus}); set {tensor_key}=1 or a divisor of {gpus}"
        )
    if gpus % parallel:
        key = keys.ULYSSES_SEQUENCE_PARALLEL_SIZE
        found.append(
            f"{key} is {parallel}: it must divide the {gpus} workers; set {key}={_largest_divisor(gpus, parallel)}"
        )
    rows = value(config, keys.TRAIN_BATCH_SIZE) * value(config, keys.ROLLOUT_N)
    if rows % gpus:
        found.append(
            f"{keys.TRAIN_BATCH_SIZE} is {value(config, keys.TRAIN_BATCH_SIZE)}: times {keys.ROLLOUT_N}, that makes "
            f"{rows} answers, not divisible by {gpus} workers; set {keys.TRAIN_BATCH_SIZE} to a multiple of {gpus}"
        )
    actor, rollout = keys.ACTOR_USE_DYNAMIC_BSZ, keys.ROLLOUT_LOG_PROB_USE_DYNAMIC_BSZ
    if bool(value(config, actor)) != bool(value(config, rollout)):
        found.append(f"{rollout} is {value(config, rollout)}: verl needs it equal to {actor}; set both or neither")
    return found


def _mini_batches(config: DictConfig, node: str) -> list[str]:
    """Check one model's updates: mini-batches per batch, their share per rank, micro-batches of that share."""
    key, micro_key = f"{node}.ppo_mini_batch_size", f"{node}.ppo_micro_batch_size_per_gpu"
    mini, batch, ranks = value(config, key), _update_batch(config), ParallelLayout.from_config(config).data_parallel
    if batch % mini:
        return [
            f"{key} is {mini}: it must divide {keys.TRAIN_BATCH_SIZE} ({batch}), otherwise verl pads the last "
            f"mini-batch with empty answers; set {key}={_largest_divisor(batch, mini)}"
        ]
    rows = mini * value(config, keys.ROLLOUT_N)
    if rows % ranks:
        return [
            f"{key} is {mini}: times {keys.ROLLOUT_N}, that makes {rows} answers, which must be a multiple of the "
            f"{ranks} workers"
        ]
    return [] if value(config, f"{node}.use_dynamic_bsz") else _micro_batches(config, micro_key, rows // ranks)


def _critic(config: DictConfig) -> list[str]:
    return _mini_batches(config, keys.CRITIC) if value(config, keys.CRITIC_ENABLE) else []


def _log_probs(config: DictConfig) -> list[str]:
    rows = _update_batch(config) * value(config, keys.ROLLOUT_N)
    ranks = ParallelLayout.from_config(config).data_parallel
    if rows % ranks:
        return []
    sizes = [key for key in _micro_batch_keys(config) if key in LOG_PROB_MICRO_BATCH_KEYS]
    return [problem for key in sizes for problem in _micro_batches(config, key, rows // ranks)]


def _micro_batches(config: DictConfig, key: str, rows: int) -> list[str]:
    micro = value(config, key)
    if rows % micro == 0:
        return []
    return [
        f"{key} is {micro}: it must divide the {rows} answers that each worker processes at once; "
        f"set {key}={_largest_divisor(rows, micro)}"
    ]


def _token_budgets(config: DictConfig) -> list[str]:
    """Check token-based micro-batches: the longest possible sequence must fit into one."""
    per_gpu = -(-max_sequence_length(config) // ParallelLayout.from_config(config).sequence_parallel)
    switches = {
        keys.ACTOR_PPO_MAX_TOKEN_LEN_PER_GPU: keys.ACTOR_USE_DYNAMIC_BSZ,
        keys.ROLLOUT_LOG_PROB_MAX_TOKEN_LEN_PER_GPU: keys.ROLLOUT_LOG_PROB_USE_DYNAMIC_BSZ,
    }
    if needs_reference(config):
        switches[keys.REF_LOG_PROB_MAX_TOKEN_LEN_PER_GPU] = keys.REF_LOG_PROB_USE_DYNAMIC_BSZ
    return [
        f"{key} is {budget}: {keys.MAX_PROMPT_LENGTH} + {keys.MAX_RESPONSE_LENGTH} is {max_sequence_length(config)}; "
        f"set {key} to {per_gpu} or more"
        for key, switch in switches.items()
        if value(config, switch) and not (is_count(budget := value(config, key)) and budget >= per_gpu)
    ]


def _one_micro_batch(config: DictConfig) -> list[str]:
    """Check that a worker's part of a mini-batch is one micro-batch if the loss is only right then."""
    if value(config, keys.LOSS_MODE) not in LOSSES_OF_ONE_MICRO_BATCH:
        return []
    layout = ParallelLayout.from_config(config)
    needed = value(config, keys.ACTOR_PPO_MINI_BATCH_SIZE) * value(config, keys.ROLLOUT_N) // layout.data_parallel
    key = keys.ACTOR_PPO_MICRO_BATCH_SIZE_PER_GPU
    if value(config, keys.ACTOR_USE_DYNAMIC_BSZ):
        key = keys.ACTOR_PPO_MAX_TOKEN_LEN_PER_GPU
        needed = -(-needed * max_sequence_length(config) // layout.sequence_parallel)
    if value(config, key) >= needed:
        return []
    return [
        f"{keys.LOSS_MODE} is {value(config, keys.LOSS_MODE)}: verl averages it over each micro-batch and adds these "
        f"up, so it is only right with one micro-batch per update; set {key}={needed}"
    ]


def _largest_divisor(number: int, limit: int) -> int:
    return next((divisor for divisor in range(min(number, limit), 0, -1) if number % divisor == 0), 1)
