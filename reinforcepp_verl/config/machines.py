"""`cluster=`: the machine at hand, the one that somebody names, and the one that a recipe is meant for."""

from __future__ import annotations

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from reinforcepp_verl.common.hardware import cpu_platform_wanted, gpu_count, gpu_memories_gib
from reinforcepp_verl.config import keys

GROUP, AUTO = "cluster", "auto"


def register_resolvers() -> None:
    """Make known what cluster/auto.yaml and cluster/local.yaml refer to."""
    OmegaConf.register_new_resolver("reinforcepp.machine_at_hand", machine_at_hand, replace=True)
    OmegaConf.register_new_resolver("reinforcepp.local_gpus", gpu_count, replace=True)


def machine_at_hand() -> str:
    """Return the name for `cluster=` of the machine that this process runs on."""
    return "cpu" if cpu_platform_wanted() else "local"


def application_runs() -> bool:
    """Tell whether the configuration comes from an application of Hydra's, which can compose it for another machine."""
    return GlobalHydra.instance().is_initialized() and HydraConfig.initialized()


def chosen() -> bool:
    """Tell whether somebody chose the machine of the configuration that Hydra's application composed."""
    hydra = HydraConfig.get()
    named = any(override.startswith(f"{GROUP}=") for override in hydra.overrides.task)
    return named or hydra.runtime.choices.get(GROUP) != AUTO


def meant(config: DictConfig) -> str | None:
    """Return the machine to compose the application's configuration for in place of the one at hand, if there is one.

    A name that does not exist is left to the checks.
    """
    name = OmegaConf.select(config, keys.MEANT_FOR)
    return name if name in names() and name != machine_at_hand() and not chosen() else None


def composed_for(name: str) -> DictConfig:
    """Compose the application's configuration with `cluster=NAME`."""
    hydra = HydraConfig.get()
    return compose(hydra.job.config_name, [*hydra.overrides.task, f"{GROUP}={name}"])


def names() -> list[str]:
    """Return what the application can be given as `cluster=`, files in the user's --config-dir too."""
    return GlobalHydra.instance().config_loader().get_group_options(GROUP)


def gpus(config: DictConfig) -> int:
    """Return how many GPUs the trainer of a configuration has."""
    return config.trainer.nnodes * config.trainer.n_gpus_per_node


def memory_gib(config: DictConfig) -> float | None:
    """Return the memory of the smallest GPU of a configuration; None if it is unknown."""
    return OmegaConf.select(config, keys.GPU_MEMORY_GIB) or min(gpu_memories_gib(), default=None)


def described(config: DictConfig) -> str:
    """Say in words which machine a configuration is for."""
    if config.trainer.device == "cpu":
        return "a CPU"
    gib = memory_gib(config)
    return f"{gpus(config)} GPU{'s' * (gpus(config) > 1)}" + (f" of {gib:.0f} GiB" if gib else "")
