"""The trackers of `trainer.logger`: names that verl knows, and the packages that they need."""

from __future__ import annotations

import importlib.util

from omegaconf import DictConfig, ListConfig

from reinforcepp_verl.common.wording import did_you_mean, shown
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import value

PACKAGES: dict[str, str | None] = {
    "console": None,
    "file": None,
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "swanlab": "swanlab",
    "clearml": "clearml",
    "trackio": "trackio",
    "vemlp_wandb": "volcengine_ml_platform",
    "rl_insight": "rl_insight",
    "tracking": "wandb",
}
"""verl's trackers, and the package that each imports when the training begins."""


def check(config: DictConfig) -> list[str]:
    """Check the names, then the packages."""
    given = value(config, keys.LOGGER)
    names = [given] if isinstance(given, str) else list(given) if isinstance(given, ListConfig) else None
    if not names:
        return [f"{keys.LOGGER} is {shown(given)}: it must be a list of trackers; set '{keys.LOGGER}=[console,file]'"]
    return [problem for name in names if (problem := _problem(name))]


def _problem(name: object) -> str | None:
    if not isinstance(name, str) or name not in PACKAGES:
        known = ", ".join(PACKAGES)
        return f"{keys.LOGGER} has {name}: verl has no such tracker{did_you_mean(name, PACKAGES)}; known names: {known}"
    package = PACKAGES[name]
    if package is None or importlib.util.find_spec(package):
        return None
    hint = package.replace("_", "-")
    return f"{keys.LOGGER} has {name}: it needs the package {hint}, which is not installed; `pip install {hint}`"
