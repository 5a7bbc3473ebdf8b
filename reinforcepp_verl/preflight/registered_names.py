"""Names that verl looks up only at the first training step, and the policy loss's own options.

Checked before the algorithm settings: importing verl imports the modules that register estimators and losses. verl's
names and ours are known without that import, which takes seconds; the training process looks them up again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from omegaconf import DictConfig

from reinforcepp_verl.algorithm.registry import ESTIMATORS, LOSSES, VERL_ESTIMATORS, VERL_LOSSES
from reinforcepp_verl.common.wording import did_you_mean, first_line
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.nodes import read_loss_options
from reinforcepp_verl.config.reading import value

OWN_MODULES = "VERL_USE_EXTERNAL_MODULES"
"""verl's variable for user modules, which it imports first."""


def check(config: DictConfig) -> list[str]:
    """Check both names; import verl only for a name that is neither verl's nor ours, or if the user has own modules."""
    known = value(config, keys.ADV_ESTIMATOR) in (*ESTIMATORS, *VERL_ESTIMATORS)
    known = known and value(config, keys.LOSS_MODE) in (*LOSSES, *VERL_LOSSES)
    return _loss_options(config) if known and not os.environ.get(OWN_MODULES) else look_up(config)


def look_up(config: DictConfig) -> list[str]:
    """Import the plugin and verl as verl's processes do, then look both names up in verl's registries."""
    try:
        # verl imports the plugin too, but logs a failure at DEBUG level and continues without it.
        from reinforcepp_verl import plugin  # noqa: F401, I001
        from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY
    except Exception as error:  # the user's modules, which verl imports, may raise anything
        return [_failed_import(error)]
    return [
        *_registered(keys.ADV_ESTIMATOR, value(config, keys.ADV_ESTIMATOR), ADV_ESTIMATOR_REGISTRY),
        *(_registered(keys.LOSS_MODE, value(config, keys.LOSS_MODE), POLICY_LOSS_REGISTRY) or _loss_options(config)),
    ]


def _failed_import(error: Exception) -> str:
    own = os.environ.get(OWN_MODULES)
    subject = f"{OWN_MODULES}={own}" if own else "reinforcepp_verl.plugin"
    return (
        f"{subject}: the import fails with {type(error).__name__}: {first_line(error)}; "
        "`python -c 'import reinforcepp_verl.plugin, verl'` shows where"
    )


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
