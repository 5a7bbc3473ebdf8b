"""How verl 0.9.1 distributes the work over GPUs, for the FSDP engines."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import DictConfig

from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import trainer_mode, value, world_size


@dataclass(frozen=True)
class ParallelLayout:
    """Numbers of GPUs: `shards` hold one copy of the training state, an `engine` is one vLLM server."""

    gpus: int
    shards: int
    sequence_parallel: int
    engine: int
    tensor_parallel: int
    pipeline_parallel: int
    engines: int
    colocated: bool

    @property
    def data_parallel(self) -> int:
        """Number of workers that a batch is split over; workers that share a sequence count as one."""
        return max(1, self.gpus // self.sequence_parallel)

    @classmethod
    def from_config(cls, config: DictConfig) -> ParallelLayout:
        """Read the layout of a configuration with valid counts."""
        gpus = world_size(config)
        fsdp_size = value(config, keys.FSDP_SIZE)
        tensor_parallel = value(config, keys.TENSOR_MODEL_PARALLEL_SIZE)
        engine = tensor_parallel
        for part in (keys.DATA_PARALLEL_SIZE, keys.PIPELINE_MODEL_PARALLEL_SIZE):
            engine *= value(config, part)
        separate = trainer_mode(config) == "separate_async"
        rollout_gpus = (value(config, keys.ROLLOUT_NNODES) or 0) * (value(config, keys.ROLLOUT_N_GPUS_PER_NODE) or 0)
        hybrid = bool(value(config, keys.HYBRID_ENGINE))
        return cls(
            gpus=gpus,
            shards=gpus if fsdp_size in (None, -1) else min(fsdp_size, gpus),
            sequence_parallel=max(
                value(config, keys.ULYSSES_SEQUENCE_PARALLEL_SIZE) or 1,
                value(config, keys.FSDP_ULYSSES_SEQUENCE_PARALLEL_SIZE) or 1,
            ),
            engine=engine,
            tensor_parallel=tensor_parallel,
            pipeline_parallel=value(config, keys.PIPELINE_MODEL_PARALLEL_SIZE),
            engines=(gpus * hybrid + rollout_gpus * separate) // engine,
            colocated=hybrid,
        )


def needs_reference(config: DictConfig) -> bool:
    """Return True if log-probabilities of a reference policy are needed."""
    return bool(value(config, keys.USE_KL_IN_REWARD) or value(config, keys.USE_KL_LOSS))


def max_sequence_length(config: DictConfig) -> int:
    """Return the length of the longest possible sequence, in tokens."""
    return value(config, keys.MAX_PROMPT_LENGTH) + value(config, keys.MAX_RESPONSE_LENGTH)
