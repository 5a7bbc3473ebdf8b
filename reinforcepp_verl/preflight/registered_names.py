"""Names that verl looks up only at the first training step, and the policy loss's own options.

Before the checks of the algorithm: importing verl imports the modules that register estimators and losses.
"""

from __future__ import annotations

from collections.abc import Iterable

from omegaconf import DictConfig

from reinforcepp_verl.algorithm.registry import LOSSES
from reinforcepp_verl.common.wording import did_you_mean, first_line
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.nodes import read_loss_options
from reinforcepp_verl.config.reading import value

IMPORT_ERRORS = (ImportError, AttributeError, AssertionError, LookupError, TypeError, ValueError, RuntimeError, OSError)


def check(config: DictConfig) -> list[str]:
    """Import the plugin as verl's processes do, then look both names up in verl's registries."""
    try:
        # verl imports it too, but logs a failure at DEBUG level and continues without it.
        from reinforcepp_verl import plugin  # noqa: F401
    except IMPORT_ERRORS as error:
        return [
            f"reinforcepp_verl.plugin: the import fails with {type(error).__name__}: {first_line(error)}; "
            "`python -c 'import reinforcepp_verl.plugin'` shows where"
        ]
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY

    return [
        *_registered(keys.ADV_ESTIMATOR, value(config, keys.ADV_ESTIMATOR), ADV_ESTIMATOR_REGISTRY),
        *(_registered(keys.LOSS_MODE, value(config, keys.LOSS_MODE), POLICY_LOSS_REGISTRY) or _loss_options(config)),
    ]


def _loss_options(config: DictConfig) -> list[str]:
    loss, options = value(config, keys.LOSS_MODE), value(config, keys.LOSS_OPTIONS)
    if loss not in LOSSES and not options:
        return []
    try:
        read_loss_options(loss, options)
    except ValueError as error:
        return [str(error)]
    return []


def _registered(key: str, name: object, known: Iterable[str]) -> list[str]:
    known = sorted(known)
    if name in known:
        return []
    return [f"{key} is {name}: no such name{did_you_mean(name, known)}; known names: {', '.join(known)}"]
