"""Estimates the memory of one GPU, phase by phase.

Weights, gradients, optimizer states and caches are exact products of sizes. The activations count the tensors that a
decoder layer keeps, and `OVERHEAD_BYTES` covers everything else. The sums have not been verified on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import DictConfig

from reinforcepp_verl.common.hardware import GIB
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import value
from reinforcepp_verl.sizing.layout import ParallelLayout, max_sequence_length, needs_reference
from reinforcepp_verl.sizing.model_size import ModelSize

# auto: the data type in config.json, which has 16 bits in current models.
BYTES_PER_ELEMENT = {"fp32": 4, "float32": 4, "bf16": 2, "bfloat16": 2, "fp16": 2, "float16": 2, "half": 2, "auto": 2}
LORA_RANK_KEYS = (keys.MEGATRON_LORA_RANK, keys.LORA_RANK)
GRADIENT_BYTES, ADAM_BYTES, REDUCED_BYTES, GATHERED_BYTES = 4, 8, 4, 2
"""Bytes per parameter: its fp32 gradient, Adam's two fp32 states, a gradient while it is reduced, bf16 weights."""
LOGIT_BYTES = 6
"""Bytes per logit: bf16, its gradient or the softmax of the entropy, and a product of the two."""
OVERHEAD_BYTES = int(2.5 * GIB)
"""CUDA contexts of trainer and engine, NCCL buffers, fragmentation, and the memory of a sleeping engine."""
ENGINE_WORKSPACE_BYTES = int(1.5 * GIB)
"""vLLM's CUDA graphs and the activations of its profiling run."""


@dataclass(frozen=True)
class Phase:
    """Bytes on one GPU during one phase of a step, by purpose."""

    name: str
    parts: dict[str, int]

    @property
    def bytes(self) -> int:
        """Their sum."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class MemoryEstimate:
    """The phases of a step on one GPU, and the capacity of one engine's KV cache."""

    phases: tuple[Phase, ...]
    gpu_bytes: int
    kv_tokens: int
    longest_sequence: int

    @property
    def fits(self) -> bool:
        """Return True if every phase fits and the KV cache holds at least one sequence."""
        return not self.too_large and self.kv_tokens >= self.longest_sequence

    @property
    def too_large(self) -> list[Phase]:
        """The phases that do not fit."""
        return [phase for phase in self.phases if phase.bytes > self.gpu_bytes]


def estimate(config: DictConfig, model: ModelSize, gpu_gib: float) -> MemoryEstimate:
    """Estimate the memory of one GPU of `gpu_gib` GiB. A critic counts as a second model of the same size."""
    gpu = int(gpu_gib * GIB)
    layout, state = ParallelLayout.from_config(config), _TrainingState.from_config(config, model)
    engine = int(value(config, keys.GPU_MEMORY_UTILIZATION) * gpu)
    weights = model.parameters * BYTES_PER_ELEMENT[str(value(config, keys.ROLLOUT_DTYPE))]
    weights //= layout.tensor_parallel * layout.pipeline_parallel
    kv = max(0, engine - weights - ENGINE_WORKSPACE_BYTES)
    bucket = value(config, keys.UPDATE_WEIGHTS_BUCKET_MEGABYTES) * 2**20
    resting = {"training state": state.resting, "overhead": OVERHEAD_BYTES}
    # Engines on separate GPUs do not share them with the training state.
    beside = resting if layout.colocated else {"overhead": OVERHEAD_BYTES}
    awake = {"vLLM": engine} if layout.colocated and not value(config, keys.FREE_CACHE_ENGINE) else {}
    phases = [
        Phase("update", {**state.parts, **_passes(config, model, layout), **awake, "overhead": OVERHEAD_BYTES}),
        Phase("rollout", {**beside, "vLLM": engine, "weight transfer": bucket}),
    ]
    if value(config, keys.REWARD_MODEL_ENABLE) and not value(config, keys.REWARD_MODEL_ENABLE_RESOURCE_POOL):
        share = value(config, keys.REWARD_MODEL_GPU_MEMORY_UTILIZATION)
        phases.append(Phase("reward model", {**resting, "vLLM": int(share * gpu)}))
    kept = tuple(Phase(phase.name, {name: part for name, part in phase.parts.items() if part}) for phase in phases)
    return MemoryEstimate(kept, gpu, kv // _kv_bytes(model, layout), max_sequence_length(config))


@dataclass(frozen=True)
class _TrainingState:
    """Bytes of weights, gradients and optimizer on one GPU: during updates, and while others use the GPU."""

    parts: dict[str, int]
    resting: int

    @classmethod
    def from_config(cls, config: DictConfig, model: ModelSize) -> _TrainingState:
        layout, rank = ParallelLayout.from_config(config), lora_rank(config)
        if value(config, keys.OFFLOAD_POLICY) and value(config, keys.ACTOR_STRATEGY) == "fsdp2":
            return cls({}, 0)
        copies = 2 if value(config, keys.CRITIC_ENABLE) else 1
        trained = model.lora_parameters_per_rank * rank if rank else model.parameters
        # Without a data type verl trains in fp32.
        element = BYTES_PER_ELEMENT[value(config, keys.MODEL_DTYPE) or "fp32"]
        stored = element * model.parameters + 4 * trained * bool(rank)
        weights, gradients, optimizer = (
            copies * count // layout.shards for count in (stored, GRADIENT_BYTES * trained, ADAM_BYTES * trained)
        )
        if value(config, keys.USE_NO_SYNC):
            gradients *= layout.shards
        resting = weights * (not value(config, keys.PARAM_OFFLOAD))
        resting += optimizer * (not value(config, keys.OPTIMIZER_OFFLOAD))
        return cls({"weights": weights, "gradients": gradients, "optimizer": optimizer}, resting)


def lora_rank(config: DictConfig) -> int:
    """Return the rank of the adapters, 0 if all weights are trained."""
    return next((rank for key in LORA_RANK_KEYS if (rank := value(config, key))), 0)


def _passes(config: DictConfig, model: ModelSize, layout: ParallelLayout) -> dict[str, int]:
    """Return the memory of forward and backward passes over one micro-batch, in addition to the state."""
    tokens = micro_batch_tokens(config, keys.ACTOR, layout)
    layer = 2 * tokens * (12 * model.hidden + 5 * model.intermediate)
    if value(config, keys.ENABLE_GRADIENT_CHECKPOINTING):
        activations = layer + 2 * tokens * model.layers * model.hidden
    else:
        activations = layer * model.layers
    outer, inner = model.outer_parameters, model.layer_parameters
    gathered = outer + 2 * inner if value(config, keys.RESHARD_AFTER_FORWARD) else model.parameters
    fused = value(config, keys.USE_FUSED_KERNELS)
    # The reference's weights stay in host memory; its forward pass gathers them like the actor's.
    widest = max(
        [tokens, micro_batch_tokens(config, keys.ROLLOUT, layout)]
        + ([micro_batch_tokens(config, keys.REF, layout)] if needs_reference(config) else [])
    )
    return {
        "gathered weights": GATHERED_BYTES * gathered + (0 if lora_rank(config) else REDUCED_BYTES * (outer + inner)),
        "activations": activations,
        "logits": 0 if fused else LOGIT_BYTES * widest * model.vocab,
    }


def micro_batch_tokens(config: DictConfig, node: str, layout: ParallelLayout) -> int:
    """Return the maximum number of tokens of one micro-batch on one GPU."""
    prefix = "ppo" if node == keys.ACTOR else "log_prob"
    switch = f"{node}.use_dynamic_bsz" if node == keys.ACTOR else f"{node}.log_prob_use_dynamic_bsz"
    if value(config, switch):
        return value(config, f"{node}.{prefix}_max_token_len_per_gpu")
    rows = value(config, f"{node}.{prefix}_micro_batch_size_per_gpu")
    return rows * max_sequence_length(config) // layout.sequence_parallel


def _kv_bytes(model: ModelSize, layout: ParallelLayout) -> int:
    """Return the bytes per token of keys and values on one GPU of an engine."""
    heads = max(1, model.kv_heads // layout.tensor_parallel)
    return 2 * (model.layers // layout.pipeline_parallel) * heads * model.head_dim * 2
