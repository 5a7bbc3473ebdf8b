"""Keys of older verl versions that verl 0.9.1 still accepts but no longer reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import value

LEGACY_NODES = ("reward_model", "custom_reward_function", "sandbox_fusion")
RENAMED = {
    "reward_model.num_workers": keys.REWARD_NUM_WORKERS,
    "reward_model.reward_manager": keys.REWARD_MANAGER_NAME,
    "reward_model.reward_loop_source": keys.REWARD_MANAGER_SOURCE,
    "reward_model.reward_loop_module_path": keys.REWARD_MANAGER_MODULE_PATH,
    "reward_model.reward_loop_class_name": keys.REWARD_MANAGER_MODULE_NAME,
    "reward_model.model.path": keys.REWARD_MODEL_PATH,
}


def check(config: DictConfig) -> list[str]:
    """Find values under the obsolete top-level reward nodes."""
    return [
        f"{key}={found}: verl 0.9.1 ignores this legacy key; set {RENAMED.get(key, f'reward.{key}')} instead"
        for node in LEGACY_NODES
        for key, found in _leaves(node, value(config, node))
    ]


def _leaves(key: str, node: Any) -> Iterator[tuple[str, Any]]:
    """Yield the non-null values below a node."""
    if OmegaConf.is_dict(node):
        for name in node:
            yield from _leaves(f"{key}.{name}", node[name])
    elif node is not None:
        yield key, node
