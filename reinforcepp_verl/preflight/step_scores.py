"""Scores of steps or tokens, if the reward function's source says that it returns them: what places and reads them."""

from __future__ import annotations

from omegaconf import DictConfig

from reinforcepp_verl.algorithm.registry import VERL_GROUP_ESTIMATORS, traits_of
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.preflight_options import SUMMED_STEPS
from reinforcepp_verl.config.reading import TRAINER_PREFIX, value
from reinforcepp_verl.config.reward_error_options import OUR_REWARD_MANAGER
from reinforcepp_verl.preflight.findings import Found, PreflightWarning
from reinforcepp_verl.preflight.reward_function import source_file
from reinforcepp_verl.preflight.reward_keys import returned_keys
from reinforcepp_verl.rewards.token_scores import STEP_SCORES_KEY, TOKEN_SCORES_KEY

STEPWISE = (STEP_SCORES_KEY, TOKEN_SCORES_KEY)


def check(config: DictConfig) -> Found:
    """Check reward manager and trainer, which place the scores, and whether the estimator reads their places."""
    path, name = value(config, keys.REWARD_FUNCTION_PATH), value(config, keys.REWARD_FUNCTION_NAME)
    source = source_file(path) if path else None
    returned = returned_keys(source, name) if source is not None else None
    key = next((key for key in STEPWISE if key in (returned or ())), None)
    if key is None:
        return []
    manager, mode = value(config, keys.REWARD_MANAGER_NAME), value(config, keys.TRAINER_MODE)
    estimator = value(config, keys.ADV_ESTIMATOR)
    returns = f"the {key} that {name} of {path} returns"
    found: list[str | PreflightWarning] = []
    if manager != OUR_REWARD_MANAGER:
        found.append(
            f"{keys.REWARD_MANAGER_NAME} is {manager}, which cannot read {returns}; set "
            f"{keys.REWARD_MANAGER_NAME}={OUR_REWARD_MANAGER}"
        )
    if not mode.startswith(TRAINER_PREFIX):
        found.append(
            f"{keys.TRAINER_MODE} is {mode}, verl's own trainer, which cannot place {returns}; set "
            f"{keys.TRAINER_MODE}={TRAINER_PREFIX}{mode}"
        )
    traits = traits_of(estimator)
    sums = traits.whole_answers if traits is not None else estimator in VERL_GROUP_ESTIMATORS
    if sums:
        message = f"{keys.ADV_ESTIMATOR} is {estimator}: it adds up {returns}, whichever token has them"
        others = "reinforcepp_baseline, reinforce_reward_to_go, remax, ppo"
        found.append(PreflightWarning(SUMMED_STEPS, f"{message}; use +method=reinforcepp, or one of {others}"))
    return found
