"""Batch sizes that do not divide as verl 0.9.1 needs it; it finds out at the first step, after the models are loaded.

The rules are those of `train_mini_batch`, `prepare_micro_batches` and the v1 trainers, for the FSDP engines.
"""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig

from reinforcepp_verl.config.reading import is_count, trainer_mode, value
from reinforcepp_verl.sizing.layout import Layout, longest, needs_reference

ROOT = "actor_rollout_ref"
ACTOR, REF, ROLLOUT = f"{ROOT}.actor", f"{ROOT}.ref", f"{ROOT}.rollout"
TRAIN = "data.train_batch_size"
COUNTS = (
    TRAIN,
    "data.max_prompt_length",
    "data.max_response_length",
    f"{ACTOR}.ppo_mini_batch_size",
    f"{ACTOR}.ppo_epochs",
    f"{ROLLOUT}.n",
    f"{ROLLOUT}.tensor_model_parallel_size",
    f"{ROLLOUT}.data_parallel_size",
    f"{ROLLOUT}.pipeline_model_parallel_size",
    "trainer.nnodes",
    "trainer.n_gpus_per_node",
)


def check(config: DictConfig) -> list[str]:
    """Check that the sizes are counts, and only then that they fit together."""
    counts = [*COUNTS, *_micro_batch_keys(config)]
    wrong = [key for key in counts if not is_count(value(config, key))]
    if wrong:
        return [f"{key} is {value(config, key)!r}: set {key} to an integer >= 1" for key in wrong]
    found = [*_separate_async(config), *_workers(config)]
    if found or value(config, f"{ACTOR}.strategy") not in ("fsdp", "fsdp2"):
        return found
    return [*_mini_batches(config, ACTOR), *_critic(config), *_log_probs(config), *_token_budgets(config)]


def _micro_batch_keys(config: DictConfig) -> Iterator[str]:
    """Yield the micro-batch sizes that verl will use; their forms without `_per_gpu` are dead."""
    if not value(config, f"{ACTOR}.use_dynamic_bsz"):
        yield f"{ACTOR}.ppo_micro_batch_size_per_gpu"
    if not value(config, f"{ROLLOUT}.log_prob_use_dynamic_bsz"):
        yield f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu"
    if needs_reference(config) and not value(config, f"{REF}.log_prob_use_dynamic_bsz"):
        yield f"{REF}.log_prob_micro_batch_size_per_gpu"
    if value(config, "critic.enable"):
        yield "critic.ppo_mini_batch_size"
        if not value(config, "critic.use_dynamic_bsz"):
            yield "critic.ppo_micro_batch_size_per_gpu"


def _update_batch(config: DictConfig) -> int:
    """Return how many prompts one round of updates gets: separate_async cuts the batch into parts."""
    mode = trainer_mode(config)
    parts = value(config, f"trainer.v1.{mode}.parameter_sync_step") or 1
    return value(config, TRAIN) // parts


def _separate_async(config: DictConfig) -> list[str]:
    if trainer_mode(config) != "separate_async":
        return []
    found = []
    step_key, mini_key = "trainer.v1.separate_async.parameter_sync_step", f"{ACTOR}.ppo_mini_batch_size"
    batch, step, mini = value(config, TRAIN), value(config, step_key), value(config, mini_key)
    if not is_count(step) or batch != step * mini:
        found.append(
            f"{TRAIN} is {batch}: separate_async needs {step_key} ({step}) x {mini_key} ({mini}); "
            f"set {TRAIN}={step * mini if is_count(step) else mini}"
        )
    if not is_count(value(config, f"{ROLLOUT}.nnodes")):
        found.append(f"{ROLLOUT}.nnodes is {value(config, f'{ROLLOUT}.nnodes')}: separate_async needs 1 or more")
    if value(config, f"{ROLLOUT}.checkpoint_engine.backend") == "naive":
        found.append(f"{ROLLOUT}.checkpoint_engine.backend is naive: separate_async needs another; set it to nccl")
    return found


def _workers(config: DictConfig) -> list[str]:
    found = []
    layout, tensor_key = Layout.of(config), f"{ROLLOUT}.tensor_model_parallel_size"
    gpus, engine, parallel = layout.gpus, layout.engine, layout.sequence_parallel
    if gpus % engine and trainer_mode(config) != "separate_async":
        found.append(
            f"{tensor_key} is {value(config, tensor_key)}: an engine takes {engine} GPUs, which does not divide the "
            f"{gpus} of trainer.nnodes x trainer.n_gpus_per_node; set {tensor_key}=1 or a divisor of {gpus}"
        )
    if gpus % parallel:
        key = f"{ACTOR}.ulysses_sequence_parallel_size"
        found.append(
            f"{key} is {parallel}: so many workers share a sequence, and there are {gpus}; "
            f"set {key}={_largest_divisor(gpus, parallel)}"
        )
    rows = value(config, TRAIN) * value(config, f"{ROLLOUT}.n")
    if rows % gpus:
        found.append(
            f"{TRAIN} is {value(config, TRAIN)}: x {ROLLOUT}.n that makes {rows} answers, which {gpus} workers cannot "
            f"share evenly; set {TRAIN} to a multiple of {gpus}"
        )
    actor, rollout = f"{ACTOR}.use_dynamic_bsz", f"{ROLLOUT}.log_prob_use_dynamic_bsz"
    if bool(value(config, actor)) != bool(value(config, rollout)):
        found.append(f"{rollout} is {value(config, rollout)}: verl needs it equal to {actor}; set both or neither")
    return found


def _mini_batches(config: DictConfig, node: str) -> list[str]:
    """Check one model's updates: mini-batches of a batch, their share per rank, micro-batches of that share."""
    key, micro_key = f"{node}.ppo_mini_batch_size", f"{node}.ppo_micro_batch_size_per_gpu"
    mini, batch, ranks = value(config, key), _update_batch(config), Layout.of(config).data_parallel
    if batch % mini:
        return [
            f"{key} is {mini}: it must divide {TRAIN} ({batch}), or verl fills the last mini-batch with empty answers; "
            f"set {key}={_largest_divisor(batch, mini)}"
        ]
    rows = mini * value(config, f"{ROLLOUT}.n")
    if rows % ranks:
        return [f"{key} is {mini}: x {ROLLOUT}.n that is {rows}, which must be a multiple of the {ranks} workers"]
    return [] if value(config, f"{node}.use_dynamic_bsz") else _micro_batches(config, micro_key, rows // ranks)


def _critic(config: DictConfig) -> list[str]:
    return _mini_batches(config, "critic") if value(config, "critic.enable") else []


def _log_probs(config: DictConfig) -> list[str]:
    rows, ranks = _update_batch(config) * value(config, f"{ROLLOUT}.n"), Layout.of(config).data_parallel
    if rows % ranks:
        return []
    keys = [key for key in _micro_batch_keys(config) if key.endswith("log_prob_micro_batch_size_per_gpu")]
    return [problem for key in keys for problem in _micro_batches(config, key, rows // ranks)]


def _micro_batches(config: DictConfig, key: str, rows: int) -> list[str]:
    micro = value(config, key)
    if rows % micro == 0:
        return []
    return [
        f"{key} is {micro}: it must divide the {rows} answers that each worker gets at once; "
        f"set {key}={_largest_divisor(rows, micro)}"
    ]


def _token_budgets(config: DictConfig) -> list[str]:
    """Check micro-batches by tokens: the longest possible sequence must fit into one."""
    per_gpu = -(-longest(config) // Layout.of(config).sequence_parallel)
    switches = {
        f"{ACTOR}.ppo_max_token_len_per_gpu": f"{ACTOR}.use_dynamic_bsz",
        f"{ROLLOUT}.log_prob_max_token_len_per_gpu": f"{ROLLOUT}.log_prob_use_dynamic_bsz",
    }
    if needs_reference(config):
        switches[f"{REF}.log_prob_max_token_len_per_gpu"] = f"{REF}.log_prob_use_dynamic_bsz"
    return [
        f"{key} is {budget}: data.max_prompt_length + data.max_response_length is {longest(config)}; "
        f"set {key} to {per_gpu} or more"
        for key, switch in switches.items()
        if value(config, switch) and not (is_count(budget := value(config, key)) and budget >= per_gpu)
    ]


def _largest_divisor(number: int, limit: int) -> int:
    return next((divisor for divisor in range(min(number, limit), 0, -1) if number % divisor == 0), 1)
