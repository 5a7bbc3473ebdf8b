"""The node `guards`: invalid values, and limits on metrics that this configuration does not report."""

from __future__ import annotations

from omegaconf import DictConfig

from reinforcepp_verl.config import keys
from reinforcepp_verl.config.guard_options import GuardOptions
from reinforcepp_verl.config.nodes import read_guards
from reinforcepp_verl.config.reading import value


def check(config: DictConfig) -> list[str]:
    """Check the values first, then the requirements of the limits."""
    if value(config, keys.GUARDS) is None:
        return [f"{keys.GUARDS} is null: remove this setting to use the defaults; most of its keys can be null"]
    try:
        options = read_guards(config)
    except ValueError as error:
        return [str(error)]
    return [*_kl(config, options), *_entropy(config, options)]


def _kl(config: DictConfig, options: GuardOptions) -> list[str]:
    has_reference = value(config, keys.USE_KL_IN_REWARD) or value(config, keys.USE_KL_LOSS)
    if options.max_kl is None or has_reference:
        return []
    return [
        f"{keys.GUARDS}.max_kl is {options.max_kl:g}: the metric that it limits needs a reference model; set "
        f"{keys.USE_KL_IN_REWARD}=true or {keys.USE_KL_LOSS}=true, or {keys.GUARDS}.max_kl=null"
    ]


def _entropy(config: DictConfig, options: GuardOptions) -> list[str]:
    limits = [name for name in ("min_entropy", "max_entropy") if vars(options)[name] is not None]
    if not limits or not value(config, keys.BYPASS_MODE):
        return []
    return [
        f"{keys.GUARDS}.{limits[0]} is {vars(options)[limits[0]]:g}: with {keys.BYPASS_MODE}=true verl computes no "
        f"entropy; set {keys.GUARDS}.{limits[0]}=null"
    ]
