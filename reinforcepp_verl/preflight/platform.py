"""Settings that do not fit the machine: CPU or accelerator."""

from __future__ import annotations

import os

from omegaconf import DictConfig

from reinforcepp_verl.cpu.detect import PLATFORM_VARIABLE, accelerator_present, cpu_platform_wanted
from reinforcepp_verl.preflight.values import value

ROLLOUT = "actor_rollout_ref.rollout"


def check(config: DictConfig) -> list[str]:
    """Check the device against this machine, and a CPU run against what works on the CPU."""
    return _cpu_run(config) if value(config, "trainer.device") == "cpu" else _accelerator_run(config)


def _accelerator_run(config: DictConfig) -> list[str]:
    device = value(config, "trainer.device")
    if not cpu_platform_wanted() or _remote_cluster(config):
        return []
    if accelerator_present():
        return [f"trainer.device is {device}, but {PLATFORM_VARIABLE}=cpu is exported; unset it or add +cluster=cpu"]
    return [
        f"trainer.device is {device}, but this machine has no accelerator; add +cluster=cpu, or export "
        f"{PLATFORM_VARIABLE}=nvidia where the GPUs are on other nodes of a Ray cluster"
    ]


def _remote_cluster(config: DictConfig) -> bool:
    """Return True when Ray runs elsewhere, so that this machine says nothing about the workers'."""
    address = value(config, "ray_kwargs.ray_init.address") or os.environ.get("RAY_ADDRESS")
    return bool(address) and address != "local"


def _cpu_run(config: DictConfig) -> list[str]:
    found = []
    if not cpu_platform_wanted():
        found.append(
            "trainer.device is cpu, but verl would use this machine's accelerator; "
            f"export {PLATFORM_VARIABLE}=cpu, or set trainer.device=cuda"
        )
    nodes = ["actor_rollout_ref.actor"] + (["critic"] if value(config, "critic.enable") else [])
    found += [
        f"{node}.strategy is {value(config, f'{node}.strategy')}: only FSDP2 runs on the CPU; "
        f"set {node}.strategy=fsdp2 or add +cluster=cpu"
        for node in nodes
        if value(config, f"{node}.strategy") != "fsdp2"
    ]
    found += [
        f"{ROLLOUT}.{key} is true: vLLM cannot sleep on the CPU; set {ROLLOUT}.{key}=false or add +cluster=cpu"
        for key in ("enable_sleep_mode", "free_cache_engine")
        if value(config, f"{ROLLOUT}.{key}")
    ]
    return found
