"""Settings of the algorithm that contradict each other. verl checks the types and ranges of none of them."""

from __future__ import annotations

from omegaconf import DictConfig

from reinforcepp_verl.algorithm.options import FAMILY, NODE, ReinforceppOptions, unread_options
from reinforcepp_verl.config.nodes import read_options
from reinforcepp_verl.config.reading import OUR_TRAINERS, is_number, value

ACTOR = "actor_rollout_ref.actor"
MODE = "trainer.v1.trainer_mode"
MODES = ("sync", "colocate_async", "separate_async")
# Those of verl's that run in its v1 trainer.
VERL_ESTIMATORS = (
    *("gae", "grpo", "grpo_vectorized", "grpo_passk", "rloo", "rloo_vectorized", "opo", "gpg"),
    *("reinforce_plus_plus", "reinforce_plus_plus_baseline"),
)
# What verl's v1 trainer never fetches, and without which these of its estimators stop at the first step.
STARVED = {
    "remax": "the greedy answers' rewards (reward_baselines)",
    "gdpo": "the single reward dimensions",
    "optimal_token_baseline": "sum_pi_squared",
    "tir_optimal_token_baseline": "sum_pi_squared",
}
LOG_PROBS = "actor_rollout_ref.rollout.calculate_log_probs"
MATH_METRICS = ("acc", "reward", "score", "format")
FILTER = "algorithm.filter_groups"
# The expected gradient of k1 and k3 is not that of the KL divergence; verl's "+" forms borrow the gradient of k2.
WRONG_GRADIENT = ("kl", "k1", "low_var_kl", "k3")


def check(config: DictConfig) -> list[str]:
    """Check numbers, then the KL terms, then what each estimator, trainer, loss and filter needs."""
    checks = (
        _numbers,
        _kl,
        _estimator,
        _whole_answer,
        _options,
        _trainer,
        _dual_clip,
        _aggregation,
        _correction,
        _filter_groups,
    )
    return [problem for check_part in checks for problem in check_part(config)]


def _numbers(config: DictConfig) -> list[str]:
    found = []
    gamma, coefficient = value(config, "algorithm.gamma"), value(config, "algorithm.kl_ctrl.kl_coef")
    if not (is_number(gamma) and 0 <= gamma <= 1):
        found.append(f"algorithm.gamma is {gamma!r}: it must be a number from 0 to 1; set algorithm.gamma=1.0")
    if not (is_number(coefficient) and coefficient >= 0):
        found.append(
            f"algorithm.kl_ctrl.kl_coef is {coefficient!r}: it must be a number >= 0; "
            "set algorithm.kl_ctrl.kl_coef=0.001"
        )
    return found


def _kl(config: DictConfig) -> list[str]:
    estimator = value(config, "algorithm.adv_estimator")
    in_reward, as_loss = value(config, "algorithm.use_kl_in_reward"), value(config, f"{ACTOR}.use_kl_loss")
    kind = value(config, f"{ACTOR}.kl_loss_type")
    found = []
    if in_reward and as_loss:
        off = "algorithm.use_kl_in_reward" if estimator == "reinforcepp_baseline" else f"{ACTOR}.use_kl_loss"
        found.append(
            f"algorithm.use_kl_in_reward and {ACTOR}.use_kl_loss are both true: the KL to the reference would "
            f"count twice; set {off}=false"
        )
    elif in_reward and estimator == "reinforcepp_baseline" and not value(config, f"{NODE}.kl_in_baseline_reward"):
        found.append(
            "algorithm.use_kl_in_reward is true: reinforcepp_baseline takes the KL as a separate loss; set "
            f"algorithm.use_kl_in_reward=false {ACTOR}.use_kl_loss=true {ACTOR}.kl_loss_type=mse, or say that you mean "
            f"it with {NODE}.kl_in_baseline_reward=true"
        )
    if value(config, "algorithm.kl_ctrl.type") == "adaptive" and not in_reward:
        found.append(
            "algorithm.kl_ctrl.type is adaptive, but algorithm.use_kl_in_reward is false: there is no penalty whose "
            "coefficient could adapt; set algorithm.kl_ctrl.type=fixed"
        )
    if as_loss and estimator in FAMILY and kind in WRONG_GRADIENT:
        found.append(
            f"{ACTOR}.kl_loss_type is {kind}: as a loss its gradient is not that of the KL divergence; "
            f"set {ACTOR}.kl_loss_type=mse (k2)"
        )
    return found


def _estimator(config: DictConfig) -> list[str]:
    estimator, answers = value(config, "algorithm.adv_estimator"), value(config, "actor_rollout_ref.rollout.n")
    if estimator in STARVED:
        return [
            f"algorithm.adv_estimator is {estimator}: verl's trainer does not hand it {STARVED[estimator]}, so it "
            "fails at the first step; use +method=rloo, grpo or reinforcepp_baseline"
        ]
    if estimator in FAMILY and FAMILY[estimator].compares and answers == 1:
        return [
            f"actor_rollout_ref.rollout.n is 1: {estimator} compares the answers to a prompt, and there is only one; "
            "set actor_rollout_ref.rollout.n to 2 or more, or use +method=reinforcepp"
        ]
    return []


def _whole_answer(config: DictConfig) -> list[str]:
    estimator, gamma = value(config, "algorithm.adv_estimator"), value(config, "algorithm.gamma")
    if estimator not in FAMILY or FAMILY[estimator].discounts or not is_number(gamma) or not 0 <= gamma < 1:
        return []
    return [
        f"algorithm.gamma is {gamma}: {estimator} scores whole answers, which have no discount; set "
        "algorithm.gamma=1.0 or use +method=reinforcepp"
    ]


def _options(config: DictConfig) -> list[str]:
    """Refuse options of ours that nothing would read."""
    estimator, options = value(config, "algorithm.adv_estimator"), read_options(value(config, NODE))
    if estimator in VERL_ESTIMATORS:
        if options == ReinforceppOptions():
            return []
        changed = [name for name, default in vars(ReinforceppOptions()).items() if vars(options)[name] != default]
        return [
            f"{NODE} is set, but algorithm.adv_estimator is {estimator}, which does not read it; use one of "
            f"{', '.join(FAMILY)}, or set {' '.join(map(_default, changed))}"
        ]
    if estimator not in FAMILY:
        return []
    return [
        f"{NODE}.{name} is {vars(options)[name]}: {estimator} does not read it here; set {_default(name)}"
        for name in unread_options(estimator, options)
    ]


def _default(name: str) -> str:
    """Return the override that takes an option back, also one that a recipe sets."""
    default = vars(ReinforceppOptions())[name]
    return f"{NODE}.{name}={'null' if default is None else default}".replace(" ", "")


def _trainer(config: DictConfig) -> list[str]:
    mode, known = value(config, MODE), [f"{OUR_TRAINERS}{name}" for name in MODES]
    if not value(config, "trainer.use_v1"):
        return ["trainer.use_v1 is false: our trainers are built on v1's; set trainer.use_v1=true"]
    if mode in known:
        return []
    fix = f"set {MODE}={OUR_TRAINERS}{mode}" if mode in MODES else f"set it to one of {', '.join(known)}"
    return [
        f"{MODE} is {mode}: only our trainers serve our estimators, watch a run, and save what can be resumed; {fix}, "
        "or start verl's own by its own command"
    ]


def _dual_clip(config: DictConfig) -> list[str]:
    key = f"{ACTOR}.clip_ratio_c"
    bound, loss = value(config, key), value(config, f"{ACTOR}.policy_loss.loss_mode")
    if bound is None:
        # Ours reads null as "off"; verl's own loss compares it with 1 at the first step.
        return [f"{key} is null: the loss vanilla needs a number; set {key}=3.0"] if loss == "vanilla" else []
    if is_number(bound) and bound > 1:
        return []
    return [f"{key} is {bound!r}: the dual clip must be a number > 1; set {key}=3.0, or null for none"]


def _aggregation(config: DictConfig) -> list[str]:
    mode, factor = value(config, f"{ACTOR}.loss_agg_mode"), value(config, f"{ACTOR}.loss_scale_factor")
    if mode != "seq-mean-token-sum-norm" or factor is not None:
        return []
    return [
        f"{ACTOR}.loss_agg_mode is {mode} without a scale: verl then divides by the padded length of each micro-batch, "
        "so that the gradient depends on how a batch is split; "
        f"set {ACTOR}.loss_scale_factor=${{data.max_response_length}}"
    ]


def _correction(config: DictConfig) -> list[str]:
    node = "algorithm.rollout_correction"
    asked = [key for key in ("rollout_is", "rollout_rs") if value(config, f"{node}.{key}")]
    if asked and not value(config, LOG_PROBS):
        return [
            f"{LOG_PROBS} is false: {node}.{asked[0]} compares the engine's log-probabilities with the trainer's; set "
            f"{LOG_PROBS}=true"
        ]
    bypassed = value(config, f"{node}.bypass_mode") and value(config, f"{ACTOR}.policy_loss.loss_mode") != "bypass_mode"
    if not (asked and bypassed):
        return []
    return [
        f"{node}.bypass_mode is true: with it verl skips {' and '.join(asked)}; set {node}.bypass_mode=false, or "
        f"{ACTOR}.policy_loss.loss_mode=bypass_mode for verl's own loss"
    ]


def _filter_groups(config: DictConfig) -> list[str]:
    metric = value(config, f"{FILTER}.metric")
    if not value(config, f"{FILTER}.enable"):
        return []
    judge = "reward.reward_model"
    if value(config, f"{judge}.enable") and not value(config, f"{judge}.enable_resource_pool"):
        return [
            f"{FILTER}.enable is true: a reward model on the same GPUs scores only after the groups are filtered; set "
            f"{FILTER}.enable=false or {judge}.enable_resource_pool=true"
        ]
    by_math = value(config, "reward.custom_reward_function.path") == "pkg://reinforcepp_verl.rewards.math"
    if metric and by_math and metric not in MATH_METRICS:
        return [
            f"{FILTER}.metric is {metric}: the math reward returns no such number; set {FILTER}.metric to one of "
            f"{', '.join(MATH_METRICS)}"
        ]
    return (
        []
        if metric
        else [
            f"{FILTER}.enable is true, but {FILTER}.metric is {metric!r}: no group would be filtered; set "
            f"{FILTER}.metric=reward, or to a number that the reward function returns, such as acc"
        ]
    )
