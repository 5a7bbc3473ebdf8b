"""Group filtering: the metric must be one that the reward returns."""

from __future__ import annotations

from omegaconf import DictConfig

from reinforcepp_verl.common.wording import did_you_mean
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import value
from reinforcepp_verl.preflight.reward_function import MATH_REWARD, OPTIONS, source_file
from reinforcepp_verl.preflight.reward_keys import returned_keys

SCORE_ITSELF = "reward"
"""verl's name for the score of an answer."""
METRICS = ("acc", SCORE_ITSELF, "score", "format")
"""The numbers that those of our rewards with options return."""


def check(config: DictConfig) -> list[str]:
    """Check what groups are filtered by, if they are."""
    metric = value(config, keys.FILTER_GROUPS_METRIC)
    if not value(config, keys.FILTER_GROUPS_ENABLE):
        return []
    if value(config, keys.REWARD_MODEL_ENABLE) and not value(config, keys.REWARD_MODEL_ENABLE_RESOURCE_POOL):
        return [
            f"{keys.FILTER_GROUPS_ENABLE} is true: a reward model on the same GPUs scores only after the groups are "
            f"filtered; set {keys.FILTER_GROUPS_ENABLE}=false or {keys.REWARD_MODEL_ENABLE_RESOURCE_POOL}=true"
        ]
    if not metric:
        return [
            f"{keys.FILTER_GROUPS_ENABLE} is true, but {keys.FILTER_GROUPS_METRIC} is {metric!r}: no group would be "
            f"filtered; set {keys.FILTER_GROUPS_METRIC}=reward, or to a number that the reward function returns, such "
            "as acc"
        ]
    returned = _returned(config)
    if returned is None or metric in returned:
        return []
    named = "the math reward" if value(config, keys.REWARD_FUNCTION_PATH) == MATH_REWARD else "the reward function"
    return [
        f"{keys.FILTER_GROUPS_METRIC} is {metric}: {named} does not return it{did_you_mean(metric, returned)}; set "
        f"{keys.FILTER_GROUPS_METRIC} to one of {', '.join(returned)}"
    ]


def _returned(config: DictConfig) -> list[str] | None:
    """Return what groups can be filtered by, None if that is only known when the function runs."""
    path = value(config, keys.REWARD_FUNCTION_PATH)
    if path in OPTIONS:
        return list(METRICS)
    source = source_file(path) if path else None
    if source is None:
        return None
    found = returned_keys(source, value(config, keys.REWARD_FUNCTION_NAME))
    return None if found is None else sorted({SCORE_ITSELF, *found})
