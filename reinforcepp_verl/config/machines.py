"""`cluster=`: the current machine, an explicitly selected one, and the one that a recipe is meant for."""

from __future__ import annotations

import importlib.util

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from reinforcepp_verl.common.hardware import cpu_platform_wanted, gpu_count, gpu_memories_gib
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import trainer_mode, value

GROUP, AUTO = "cluster", "auto"
FLASH_ATTENTION = "flash_attention_2"


def register_resolvers() -> None:
    """Register the resolvers used in the files of cluster/."""
    OmegaConf.register_new_resolver("reinforcepp.attention", attention, replace=True)
    OmegaConf.register_new_resolver("reinforcepp.machine_at_hand", machine_at_hand, replace=True)
    OmegaConf.register_new_resolver("reinforcepp.local_gpus", gpu_count, replace=True)
    OmegaConf.register_new_resolver("reinforcepp.virtual_gpus", lambda *, _root_: gpus(_root_), replace=True)


def attention() -> str:
    """Return the attention that transformers uses on a GPU: FlashAttention 2 if it is installed."""
    return FLASH_ATTENTION if importlib.util.find_spec("flash_attn") else "sdpa"


def machine_at_hand() -> str:
    """Return the `cluster=` name of the machine that this process runs on."""
    return "cpu" if cpu_platform_wanted() else "local"


def application_runs() -> bool:
    """Return True if the configuration comes from a Hydra application, which can compose it for another machine."""
    return GlobalHydra.instance().is_initialized() and HydraConfig.initialized()


def chosen() -> bool:
    """Return True if the user selected the machine of the configuration composed by the Hydra application."""
    hydra = HydraConfig.get()
    named = any(override.startswith(f"{GROUP}=") for override in hydra.overrides.task)
    return named or hydra.runtime.choices.get(GROUP) != AUTO


def meant(config: DictConfig) -> str | None:
    """Return the machine, other than the current one, to compose the application's configuration for, if there is one.

    An unknown name is left to the checks.
    """
    name = OmegaConf.select(config, keys.MEANT_FOR)
    return name if name in names() and name != machine_at_hand() and not chosen() else None


def composed_for(name: str) -> DictConfig:
    """Compose the application's configuration with `cluster=NAME`."""
    hydra = HydraConfig.get()
    return compose(hydra.job.config_name, [*hydra.overrides.task, f"{GROUP}={name}"])


def names() -> list[str]:
    """Return the valid names for `cluster=`, including files in the user's --config-dir."""
    return GlobalHydra.instance().config_loader().get_group_options(GROUP)


def gpu_pools(config: DictConfig) -> list[int]:
    """Return the number of GPUs of the trainer, and of each group of engines that does not share them."""
    owners = ["trainer"]
    if trainer_mode(config) == "separate_async":
        owners.append(keys.ROLLOUT)
    if value(config, keys.REWARD_MODEL_ENABLE) and value(config, keys.REWARD_MODEL_ENABLE_RESOURCE_POOL):
        owners.append(keys.REWARD_MODEL)
    return [(value(config, f"{o}.nnodes") or 0) * (value(config, f"{o}.n_gpus_per_node") or 0) for o in owners]


def gpus(config: DictConfig) -> int:
    """Return the number of GPUs of a configuration."""
    return sum(gpu_pools(config))


def memory_gib(config: DictConfig) -> float | None:
    """Return the memory of the smallest GPU of a configuration, None if unknown."""
    return OmegaConf.select(config, keys.GPU_MEMORY_GIB) or min(gpu_memories_gib(), default=None)


def described(config: DictConfig) -> str:
    """Describe the machine of a configuration."""
    if config.trainer.device == "cpu":
        return "a CPU"
    gib = memory_gib(config)
    return f"{gpus(config)} GPU{'s' * (gpus(config) > 1)}" + (f" of {gib:.0f} GiB" if gib else "")
