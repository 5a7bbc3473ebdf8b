"""The node `guards`: values that are not valid, and limits of metrics that this configuration does not give."""

from __future__ import annotations

from omegaconf import DictConfig

from reinforcepp_verl.algorithm.options import FAMILY
from reinforcepp_verl.config.guard_options import GUARDS_NODE, GuardOptions
from reinforcepp_verl.config.nodes import read_guards
from reinforcepp_verl.config.reading import value

KL_IN_REWARD, KL_LOSS = "algorithm.use_kl_in_reward", "actor_rollout_ref.actor.use_kl_loss"
BYPASS = "algorithm.rollout_correction.bypass_mode"


def check(config: DictConfig) -> list[str]:
    """Check the values first, then what the limits need."""
    if value(config, GUARDS_NODE) is None:
        return [f"{GUARDS_NODE} is null: remove this setting to get the defaults; most of its keys can be null"]
    try:
        options = read_guards(config)
    except ValueError as error:
        return [str(error)]
    return [*_kl(config, options), *_entropy(config, options)]


def _kl(config: DictConfig, options: GuardOptions) -> list[str]:
    has_reference = value(config, KL_IN_REWARD) or value(config, KL_LOSS)
    ours = value(config, "algorithm.adv_estimator") in FAMILY
    if options.max_kl is None or (has_reference and ours):
        return []
    return [
        f"{GUARDS_NODE}.max_kl is {options.max_kl:g}: that needs an estimator of ours and a reference model; set "
        f"{KL_IN_REWARD}=true or {KL_LOSS}=true, or {GUARDS_NODE}.max_kl=null"
    ]


def _entropy(config: DictConfig, options: GuardOptions) -> list[str]:
    limits = [name for name in ("min_entropy", "max_entropy") if vars(options)[name] is not None]
    if not limits or not value(config, BYPASS):
        return []
    return [
        f"{GUARDS_NODE}.{limits[0]} is {vars(options)[limits[0]]:g}: with {BYPASS}=true verl computes no entropy; set "
        f"{GUARDS_NODE}.{limits[0]}=null"
    ]
