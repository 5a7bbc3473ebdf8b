"""Settings that do not fit the machine: CPU or accelerator."""

from __future__ import annotations

import os

from omegaconf import DictConfig

from reinforcepp_verl.common.hardware import PLATFORM_VARIABLE, accelerator_present, cpu_platform_wanted
from reinforcepp_verl.common.wording import did_you_mean
from reinforcepp_verl.config import keys, machines
from reinforcepp_verl.config.machines import GROUP
from reinforcepp_verl.config.preflight_options import OTHER_MACHINE
from reinforcepp_verl.config.reading import value
from reinforcepp_verl.preflight.findings import Found, PreflightWarning

OTHER_NAMES = {"cuda": "nvidia", "gpu": "nvidia", "rocm": "amd", "hip": "amd", "npu": "huawei", "ascend": "huawei"}


def check(config: DictConfig) -> list[str]:
    """Check a CPU run against what works on the CPU."""
    return _cpu_run(config) if value(config, keys.DEVICE) == "cpu" else []


def platform_named(_config: DictConfig) -> list[str]:
    """Check the name in VERL_PLATFORM, which verl only looks up in its workers."""
    name = os.environ.get(PLATFORM_VARIABLE, "").strip().lower()
    if name in ("", "cpu", "nvidia"):
        return []
    import verl  # noqa: F401  (importing registers the platforms)
    from verl.plugin.platform.platform_manager import PlatformRegistry

    if name in (known := ("cpu", *PlatformRegistry.registered_names())):
        return []
    meant = f" (did you mean {OTHER_NAMES[name]}?)" if name in OTHER_NAMES else did_you_mean(name, known)
    return [f"{PLATFORM_VARIABLE} is {name}: no such platform{meant}; set it to one of {', '.join(known)}, or unset it"]


def meant_for(config: DictConfig) -> list[str]:
    """Check the name of the machine that the configuration is meant for."""
    name = value(config, keys.MEANT_FOR)
    if name is None or not machines.application_runs() or name in (known := machines.names()):
        return []
    return [f"{keys.MEANT_FOR} is {name}: no such {GROUP}{did_you_mean(name, known)}; known names: {', '.join(known)}"]


def counted(config: DictConfig) -> list[str]:
    """Check that the accelerators per node are known: `nvidia-smi` counts NVIDIA's only, and may not answer."""
    if value(config, keys.N_GPUS_PER_NODE) is not None:
        return []
    return [
        f"{keys.N_GPUS_PER_NODE} is null: nvidia-smi did not count the accelerators of this machine; set "
        f"{keys.N_GPUS_PER_NODE} to their number"
    ]


def at_hand(config: DictConfig) -> Found:
    """Compare this machine with the one that the configuration is meant for, unless the user selected one."""
    name = value(config, keys.MEANT_FOR)
    if name in (None, machines.machine_at_hand()) or not machines.application_runs() or machines.chosen():
        return []
    meant = machines.composed_for(name)
    if value(meant, keys.DEVICE) == "cpu":
        return []
    expected = f"{keys.MEANT_FOR} is {name} ({machines.described(meant)})"
    submit = "submit it with `reinforcepp slurm submit`"
    if value(config, keys.DEVICE) == "cpu":
        return [f"{expected}, but here it would train on the CPU; {submit}, or set {GROUP}=cpu to allow this"]
    if not _smaller(config, meant):
        return []
    here = f"but this machine has {machines.described(config)}"
    return [PreflightWarning(OTHER_MACHINE, f"{expected}, {here}; {submit}, or adapt the batch sizes")]


def _smaller(config: DictConfig, meant: DictConfig) -> bool:
    """Return True if a machine has fewer GPUs or less memory per GPU."""
    gib, wanted = machines.memory_gib(config), machines.memory_gib(meant)
    return machines.gpus(config) < machines.gpus(meant) or bool(gib and wanted and gib < wanted)


def accelerator(config: DictConfig) -> list[str]:
    """Check a run on an accelerator against this machine, unless Ray's workers are elsewhere."""
    device = value(config, keys.DEVICE)
    if device == "cpu" or not cpu_platform_wanted() or _remote_cluster(config):
        return []
    if accelerator_present():
        return [f"{keys.DEVICE} is {device}, but {PLATFORM_VARIABLE}=cpu is exported; unset it or set {GROUP}=cpu"]
    return [
        f"{keys.DEVICE} is {device}, but this machine has no accelerator; set {GROUP}=cpu, or export "
        f"{PLATFORM_VARIABLE}=nvidia if the GPUs are on other nodes of a Ray cluster"
    ]


def _remote_cluster(config: DictConfig) -> bool:
    """Return True if Ray runs elsewhere, so that the workers' machines are unknown."""
    address = value(config, keys.RAY_ADDRESS) or os.environ.get("RAY_ADDRESS")
    return bool(address) and address != "local"


def _cpu_run(config: DictConfig) -> list[str]:
    found = []
    if not cpu_platform_wanted():
        found.append(
            f"{keys.DEVICE} is cpu, but verl would use this machine's accelerator; "
            f"export {PLATFORM_VARIABLE}=cpu, or set {GROUP}=local"
        )
    nodes = [keys.ACTOR] + ([keys.CRITIC] if value(config, keys.CRITIC_ENABLE) else [])
    found += [
        f"{node}.strategy is {value(config, f'{node}.strategy')}: only FSDP2 runs on the CPU; "
        f"set {node}.strategy=fsdp2 or {GROUP}=cpu"
        for node in nodes
        if value(config, f"{node}.strategy") != "fsdp2"
    ]
    sleeping = [keys.ENABLE_SLEEP_MODE, keys.FREE_CACHE_ENGINE]
    if value(config, keys.REWARD_MODEL_ENABLE):
        sleeping += [keys.REWARD_MODEL_ENABLE_SLEEP_MODE, keys.REWARD_MODEL_FREE_CACHE_ENGINE]
    found += [
        f"{key} is true: vLLM cannot sleep on the CPU; set {key}=false or {GROUP}=cpu"
        for key in sleeping
        if value(config, key)
    ]
    return found
