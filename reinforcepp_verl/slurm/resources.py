"""The resources that a run needs: nodes, and GPUs and CPUs per node."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import DictConfig

from reinforcepp_verl.config import keys, machines
from reinforcepp_verl.config.reading import value


@dataclass(frozen=True)
class Resources:
    """`gpus` (on the CPU: virtual ones) and `cpus` are per node; `cpus` is None for all CPUs of the job."""

    nodes: int
    device: str
    gpus: int
    cpus: int | None


def required_resources(config: DictConfig, nodes: int | None = None) -> Resources:
    """Return the resources of a valid configuration, on `nodes` nodes if given.

    Raises:
        ValueError: the run does not fit this number of nodes
    """
    wanted, device = value(config, keys.NNODES), value(config, keys.DEVICE)
    pools = machines.gpu_pools(config)
    nodes = wanted if nodes is None else nodes
    if len(pools) == 1 and nodes != wanted:
        raise ValueError(
            f"--nodes={nodes}: {keys.NNODES} is {wanted}; use --nodes={wanted}, or set {keys.NNODES}={nodes}"
        )
    if sum(pools) % nodes:
        raise ValueError(f"--nodes={nodes}: it must divide the {sum(pools)} GPUs of trainer, rollout and reward model")
    return Resources(nodes, device, sum(pools) // nodes, value(config, keys.RAY_NUM_CPUS))
