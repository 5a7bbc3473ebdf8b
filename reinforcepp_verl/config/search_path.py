"""Adds the configs and recipes of this package and of verl to Hydra's search path, for our command and stock verl."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from reinforcepp_verl.algorithm.options import ReinforceppOptions
from reinforcepp_verl.algorithm.rollout_gate_options import RolloutGateOptions
from reinforcepp_verl.config import machines
from reinforcepp_verl.config.guard_options import GuardOptions
from reinforcepp_verl.config.hardware_options import HardwareOptions
from reinforcepp_verl.config.math_reward_options import MathRewardOptions
from reinforcepp_verl.config.preflight_options import PreflightOptions
from reinforcepp_verl.config.reasoning_gym_reward_options import ReasoningGymRewardOptions
from reinforcepp_verl.config.reward_error_options import RewardErrorOptions
from reinforcepp_verl.config.sample_options import SampleOptions
from reinforcepp_verl.config.sampler_options import SamplerOptions

PROVIDER = "reinforcepp-verl"
TYPED_NODES = {
    "openrlhf": ReinforceppOptions,
    "rollout_gate": RolloutGateOptions,
    "sampler_options": SamplerOptions,
    "reward_errors": RewardErrorOptions,
    "guards": GuardOptions,
    "samples": SampleOptions,
    "math_reward": MathRewardOptions,
    "reasoning_gym_reward": ReasoningGymRewardOptions,
    "hardware": HardwareOptions,
    "preflight": PreflightOptions,
}
"""The classes of hydra_configs/reinforcepp/NAME.yaml, written by `make nodes`; they define the types of the values."""


def config_dir() -> Path:
    """Return hydra_configs/: inside the package in a wheel, next to it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    candidates = (package / "hydra_configs", package.parent / "hydra_configs")
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"hydra_configs/ is in neither {candidates[0]} nor {candidates[1]}: reinstall the package")


def verl_config_dir() -> Path:
    """Return verl's config folder without importing verl, which takes seconds (`pkg://` would import it)."""
    spec = importlib.util.find_spec("verl")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("verl is not installed: run `pip install verl==0.9.1`")
    return Path(next(iter(spec.submodule_search_locations))) / "trainer" / "config"


def recipe_names() -> list[str]:
    """List the names of the shipped recipes, as written after `+recipe=`."""
    root = config_dir() / "recipe"
    return sorted(str(path.relative_to(root).with_suffix("")) for path in root.rglob("*.yaml"))


class ReinforceppSearchPath(SearchPathPlugin):
    """Appends ours, then verl's. Hydra searches a user's --config-dir after both, so use other names there."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(PROVIDER, f"file://{config_dir()}")
        search_path.append("verl", f"file://{verl_config_dir()}")


def register() -> None:
    """Register the search path, the schemas of our nodes and our resolvers with Hydra; calling it twice is harmless."""
    Plugins.instance().register(ReinforceppSearchPath)
    for name, node in TYPED_NODES.items():
        ConfigStore.instance().store(group="reinforcepp", name=f"{name}_schema", node=node, provider=PROVIDER)
    machines.register_resolvers()
    # Open, so that its keys need no + on the command line; the class of the selected loss checks them.
    loss_options = OmegaConf.create({}, flags={"struct": False})
    ConfigStore.instance().store(group="reinforcepp", name="loss_options", node=loss_options, provider=PROVIDER)
