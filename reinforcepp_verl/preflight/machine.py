"""Settings that do not fit the machine: CPU or accelerator."""

from __future__ import annotations

import os

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from reinforcepp_verl.common.hardware import PLATFORM_VARIABLE, accelerator_present, cpu_platform_wanted
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import value
from reinforcepp_verl.config.schema import compose_base

MACHINE = (keys.DEVICE, keys.NNODES, keys.N_GPUS_PER_NODE, keys.GPU_MEMORY_GIB)


def check(config: DictConfig) -> list[str]:
    """Check the order of the overlays, then a CPU run against what works on the CPU."""
    return _replaced_cluster(config) or (_cpu_run(config) if value(config, keys.DEVICE) == "cpu" else [])


def accelerator(config: DictConfig) -> list[str]:
    """Check a run on an accelerator against this machine, unless Ray's workers are elsewhere."""
    device = value(config, keys.DEVICE)
    if device == "cpu" or not cpu_platform_wanted() or _remote_cluster(config):
        return []
    if accelerator_present():
        return [f"{keys.DEVICE} is {device}, but {PLATFORM_VARIABLE}=cpu is exported; unset it or add +cluster=cpu"]
    return [
        f"{keys.DEVICE} is {device}, but this machine has no accelerator; add +cluster=cpu, or export "
        f"{PLATFORM_VARIABLE}=nvidia where the GPUs are on other nodes of a Ray cluster"
    ]


def _remote_cluster(config: DictConfig) -> bool:
    """Return True when Ray runs elsewhere, so that this machine says nothing about the workers'."""
    address = value(config, keys.RAY_ADDRESS) or os.environ.get("RAY_ADDRESS")
    return bool(address) and address != "local"


def _replaced_cluster(config: DictConfig) -> list[str]:
    """Find a cluster overlay that lies under the recipe, whose own cluster replaces it."""
    if not HydraConfig.initialized():
        return []
    # Hydra lists the last overlay, which is the one that wins, first.
    choices = HydraConfig.get().runtime.choices
    groups = [group for group in choices if group in ("recipe", "cluster") and choices[group]]
    if groups != ["recipe", "cluster"]:
        return []
    cluster, recipe = (f"+{group}={choices[group]}" for group in ("cluster", "recipe"))
    asked = compose_base(cluster)
    for key in MACHINE:
        if value(config, key) != value(asked, key):
            return [f"{cluster}: it comes before {recipe}, which sets {key} again; put {cluster} after {recipe}"]
    return []


def _cpu_run(config: DictConfig) -> list[str]:
    found = []
    if not cpu_platform_wanted():
        found.append(
            f"{keys.DEVICE} is cpu, but verl would use this machine's accelerator; "
            f"export {PLATFORM_VARIABLE}=cpu, or set {keys.DEVICE}=cuda"
        )
    nodes = [keys.ACTOR] + ([keys.CRITIC] if value(config, keys.CRITIC_ENABLE) else [])
    found += [
        f"{node}.strategy is {value(config, f'{node}.strategy')}: only FSDP2 runs on the CPU; "
        f"set {node}.strategy=fsdp2 or add +cluster=cpu"
        for node in nodes
        if value(config, f"{node}.strategy") != "fsdp2"
    ]
    found += [
        f"{key} is true: vLLM cannot sleep on the CPU; set {key}=false or add +cluster=cpu"
        for key in (keys.ENABLE_SLEEP_MODE, keys.FREE_CACHE_ENGINE)
        if value(config, key)
    ]
    return found
