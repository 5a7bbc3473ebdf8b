"""Algorithm settings that contradict each other."""

from __future__ import annotations

from omegaconf import DictConfig

from reinforcepp_verl.algorithm.options import ReinforceppOptions
from reinforcepp_verl.algorithm.registry import (
    ESTIMATORS,
    VERL_ESTIMATORS,
    VERL_GROUP_ESTIMATORS,
    options_on_scores,
    traits_of,
    unread_options,
)
from reinforcepp_verl.algorithm.rollout_gate_options import OFF
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.nodes import read_options
from reinforcepp_verl.config.preflight_options import (
    KL_IN_BASELINE_REWARD,
    KL_LOSS_GRADIENT,
    KL_TWICE,
    VERL_TRAINER,
)
from reinforcepp_verl.config.reading import TRAINER_PREFIX, value
from reinforcepp_verl.preflight.findings import Check, Found, PreflightWarning

GREEDY_ROLLOUTS = "reinforcepp_verl.integration.greedy_rollouts.GreedyAgentLoopManager"
SEEDED_ROLLOUTS = "reinforcepp_verl.integration.rollout_seeds.SeededAgentLoopManager"
OUR_SAMPLER = "pkg://reinforcepp_verl.integration.replay_buffer"
VERL_TRAINER_MODES = ("sync", "colocate_async", "separate_async")
# Inputs that verl's v1 trainer never fetches, without which these of its estimators fail at the first step.
UNSUPPORTED_ESTIMATORS = {
    "remax": "the greedy answers' rewards (reward_baselines)",
    "gdpo": "the single reward dimensions",
    "optimal_token_baseline": "sum_pi_squared",
    "tir_optimal_token_baseline": "sum_pi_squared",
}
# The expected gradient of k1 and k3 is not that of the KL divergence; verl's "+" forms use the gradient of k2.
BIASED_KL_LOSS_TYPES = ("kl", "k1", "low_var_kl", "k3")


def check(config: DictConfig) -> Found:
    """Check the KL terms, then what estimator, trainer and aggregation need."""
    checks: tuple[Check, ...] = (
        _kl,
        _estimator,
        _greedy_answer,
        _whole_answer,
        _options,
        _trainer,
        _aggregation,
    )
    return [found for check_part in checks for found in check_part(config)]


def _kl(config: DictConfig) -> list[str | PreflightWarning]:
    estimator = value(config, keys.ADV_ESTIMATOR)
    in_reward, as_loss = value(config, keys.USE_KL_IN_REWARD), value(config, keys.USE_KL_LOSS)
    kind = value(config, keys.KL_LOSS_TYPE)
    found: list[str | PreflightWarning] = []
    if in_reward and as_loss:
        off = keys.USE_KL_IN_REWARD if estimator == "reinforcepp_baseline" else keys.USE_KL_LOSS
        both = f"{keys.USE_KL_IN_REWARD} and {keys.USE_KL_LOSS} are both true: the KL to the reference counts twice"
        found.append(PreflightWarning(KL_TWICE, f"{both}; set {off}=false"))
    elif in_reward and estimator == "reinforcepp_baseline":
        fix = f"set {keys.USE_KL_IN_REWARD}=false {keys.USE_KL_LOSS}=true {keys.KL_LOSS_TYPE}=mse"
        message = f"{keys.USE_KL_IN_REWARD} is true: in the paper, {estimator} takes the KL as a loss; {fix}"
        found.append(PreflightWarning(KL_IN_BASELINE_REWARD, message))
    if value(config, keys.KL_CTRL_TYPE) == "adaptive" and not in_reward:
        found.append(
            f"{keys.KL_CTRL_TYPE} is adaptive, but {keys.USE_KL_IN_REWARD} is false: there is no penalty to adapt; "
            f"set {keys.KL_CTRL_TYPE}=fixed"
        )
    if as_loss and estimator in ESTIMATORS and kind in BIASED_KL_LOSS_TYPES:
        message = f"{keys.KL_LOSS_TYPE} is {kind}: as a loss its gradient is not that of the KL divergence"
        found.append(PreflightWarning(KL_LOSS_GRADIENT, f"{message}; set {keys.KL_LOSS_TYPE}=mse (k2)"))
    return found


def _estimator(config: DictConfig) -> list[str]:
    estimator, answers = value(config, keys.ADV_ESTIMATOR), value(config, keys.ROLLOUT_N)
    if estimator in UNSUPPORTED_ESTIMATORS:
        return [
            f"{keys.ADV_ESTIMATOR} is {estimator}: verl's trainer does not pass it "
            f"{UNSUPPORTED_ESTIMATORS[estimator]}, so it fails at the first step; use +method=remax, rloo, grpo or "
            "reinforcepp_baseline"
        ]
    traits = traits_of(estimator)
    needs_group = traits.needs_group if traits is not None else estimator in VERL_GROUP_ESTIMATORS
    if needs_group and answers == 1:
        return [
            f"{keys.ROLLOUT_N} is 1: {estimator} compares the answers to a prompt and needs at least two; "
            f"set {keys.ROLLOUT_N} to 2 or more, or use +method=reinforcepp"
        ]
    return []


def _greedy_answer(config: DictConfig) -> list[str]:
    """Check that greedy answers are sampled, for an estimator that needs them and for no other."""
    traits, manager = traits_of(value(config, keys.ADV_ESTIMATOR)), value(config, keys.AGENT_LOOP_MANAGER_CLASS)
    needed = traits is not None and traits.needs_greedy_answer
    if needed and manager in (None, SEEDED_ROLLOUTS):
        return [
            f"{keys.AGENT_LOOP_MANAGER_CLASS} is {manager}: {value(config, keys.ADV_ESTIMATOR)} needs a greedy answer "
            f"to each prompt; set {keys.AGENT_LOOP_MANAGER_CLASS}={GREEDY_ROLLOUTS}, or to a subclass of it"
        ]
    if not needed and manager == GREEDY_ROLLOUTS:
        return [
            f"{keys.AGENT_LOOP_MANAGER_CLASS} is {manager}: it samples a greedy answer to each prompt, which "
            f"{value(config, keys.ADV_ESTIMATOR)} does not read; use +method=remax or another manager"
        ]
    if needed and value(config, keys.SKIP_ROLLOUT):
        return [f"{keys.SKIP_ROLLOUT} is true: saved rollouts lack greedy answers; set {keys.SKIP_ROLLOUT}=false"]
    if needed and value(config, keys.CUSTOM_SAMPLER_PATH) != OUR_SAMPLER:
        return [
            f"{keys.CUSTOM_SAMPLER_PATH} is {value(config, keys.CUSTOM_SAMPLER_PATH)}: greedy answers would be trained "
            f"on; set {keys.CUSTOM_SAMPLER_PATH}={OUR_SAMPLER}"
        ]
    shares = value(config, keys.REWARD_MODEL_ENABLE) and not value(config, keys.REWARD_MODEL_ENABLE_RESOURCE_POOL)
    if needed and shares:
        return [
            f"{keys.REWARD_MODEL_ENABLE_RESOURCE_POOL} is false: the reward model would score greedy answers too late; "
            f"set {keys.REWARD_MODEL_ENABLE_RESOURCE_POOL}=true"
        ]
    return []


def _whole_answer(config: DictConfig) -> list[str]:
    estimator, gamma = value(config, keys.ADV_ESTIMATOR), value(config, keys.GAMMA)
    traits = traits_of(estimator)
    if traits is None or traits.uses_gamma or gamma == 1:
        return []
    return [
        f"{keys.GAMMA} is {gamma}: {estimator} scores whole answers, which have no discount; set "
        f"{keys.GAMMA}=1.0 or use +method=reinforcepp"
    ]


def _options(config: DictConfig) -> list[str]:
    """Refuse options of ours that the estimator does not read."""
    estimator, options = value(config, keys.ADV_ESTIMATOR), read_options(value(config, keys.REINFORCEPP))
    if estimator in VERL_ESTIMATORS:
        if options == ReinforceppOptions():
            return []
        changed = [name for name, default in vars(ReinforceppOptions()).items() if vars(options)[name] != default]
        return [
            f"{keys.REINFORCEPP} is set, but {keys.ADV_ESTIMATOR} is {estimator}, which does not read it; use one of "
            f"{', '.join(ESTIMATORS)}, or set {' '.join(map(_default, changed))}"
        ]
    if estimator not in ESTIMATORS:
        return []
    return [
        f"{keys.REINFORCEPP}.{name} is {vars(options)[name]}: {estimator} does not read it here; set {_default(name)}"
        for name in unread_options(estimator, options)
    ]


def _default(name: str) -> str:
    """Return the override that resets an option, even if a recipe sets it."""
    default = vars(ReinforceppOptions())[name]
    return f"{keys.REINFORCEPP}.{name}={'null' if default is None else default}".replace(" ", "")


def _trainer(config: DictConfig) -> Found:
    mode, known = value(config, keys.TRAINER_MODE), [f"{TRAINER_PREFIX}{name}" for name in VERL_TRAINER_MODES]
    if not value(config, keys.USE_V1):
        return [f"{keys.USE_V1} is false: our trainers are built on v1's; set {keys.USE_V1}=true"]
    if mode in known:
        return []
    if mode not in VERL_TRAINER_MODES:
        return [f"{keys.TRAINER_MODE} is {mode}: no such trainer; set it to one of {', '.join(known)}"]
    fix = f"set {keys.TRAINER_MODE}={TRAINER_PREFIX}{mode}"
    if needed := _needs_our_trainer(config):
        return [f"{keys.TRAINER_MODE} is {mode}, verl's own trainer, which cannot provide what {needed} needs; {fix}"]
    missing = "no guards, no limit on reward errors, no checkpoint to resume from, and STOP ends the run without a save"
    return [PreflightWarning(VERL_TRAINER, f"{keys.TRAINER_MODE} is {mode}, verl's own trainer: {missing}; {fix}")]


def _needs_our_trainer(config: DictConfig) -> str | None:
    """Return the setting with which the estimator fails under verl's own trainers."""
    estimator = value(config, keys.ADV_ESTIMATOR)
    traits = traits_of(estimator)
    if traits is None:
        return None
    options = read_options(value(config, keys.REINFORCEPP))
    if value(config, keys.USE_KL_IN_REWARD):
        if traits.needs_scores:
            return f"{estimator} with {keys.USE_KL_IN_REWARD}=true"
        for name in options_on_scores(estimator, options):
            return f"{keys.REINFORCEPP}.{name} with {keys.USE_KL_IN_REWARD}=true"
    if traits.needs_greedy_answer:
        return estimator
    if value(config, keys.ROLLOUT_GATE_DIVERGENCE) not in (None, OFF):
        return keys.ROLLOUT_GATE
    if traits.keeps_state:
        return f"the state of {estimator}"
    return f"the running statistics of {keys.REINFORCEPP}" if options.needs_memory else None


def _aggregation(config: DictConfig) -> list[str]:
    mode, factor = value(config, keys.LOSS_AGG_MODE), value(config, keys.LOSS_SCALE_FACTOR)
    if mode != "seq-mean-token-sum-norm" or factor is not None:
        return []
    return [
        f"{keys.LOSS_AGG_MODE} is {mode} without a scale: verl then divides by the padded length of each micro-batch, "
        "so the gradient depends on how a batch is split; "
        f"set {keys.LOSS_SCALE_FACTOR}=${{{keys.MAX_RESPONSE_LENGTH}}}"
    ]
