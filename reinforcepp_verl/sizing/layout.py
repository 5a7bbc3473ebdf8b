"""How the work is spread over GPUs, as verl 0.9.1 does it for the FSDP engines."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import DictConfig

from reinforcepp_verl.config.reading import trainer_mode, value

ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"


@dataclass(frozen=True)
class Layout:
    """Counts of GPUs: `shards` hold one copy of the training state, an `engine` is one vLLM server."""

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
        """Over how many workers a batch is spread: those that share a sequence count as one."""
        return max(1, self.gpus // self.sequence_parallel)

    @classmethod
    def of(cls, config: DictConfig) -> Layout:
        """Read the layout of a configuration whose counts are sound."""
        gpus = value(config, "trainer.nnodes") * value(config, "trainer.n_gpus_per_node")
        fsdp_size = value(config, f"{ACTOR}.fsdp_config.fsdp_size")
        name = "ulysses_sequence_parallel_size"
        tensor_parallel = value(config, f"{ROLLOUT}.tensor_model_parallel_size")
        engine = tensor_parallel
        for part in ("data_parallel_size", "pipeline_model_parallel_size"):
            engine *= value(config, f"{ROLLOUT}.{part}")
        separate = trainer_mode(config) == "separate_async"
        rollout_gpus = (value(config, f"{ROLLOUT}.nnodes") or 0) * (value(config, f"{ROLLOUT}.n_gpus_per_node") or 0)
        hybrid = bool(value(config, "actor_rollout_ref.hybrid_engine"))
        return cls(
            gpus=gpus,
            shards=gpus if fsdp_size in (None, -1) else min(fsdp_size, gpus),
            sequence_parallel=max(
                value(config, f"{ACTOR}.{name}") or 1, value(config, f"{ACTOR}.fsdp_config.{name}") or 1
            ),
            engine=engine,
            tensor_parallel=tensor_parallel,
            pipeline_parallel=value(config, f"{ROLLOUT}.pipeline_model_parallel_size"),
            engines=(gpus * hybrid + rollout_gpus * separate) // engine,
            colocated=hybrid,
        )


def needs_reference(config: DictConfig) -> bool:
    """Return True when a reference policy is asked for log-probabilities."""
    return bool(value(config, "algorithm.use_kl_in_reward") or value(config, f"{ACTOR}.use_kl_loss"))


def longest(config: DictConfig) -> int:
    """Return the length of the longest possible sequence, in tokens."""
    return value(config, "data.max_prompt_length") + value(config, "data.max_response_length")
