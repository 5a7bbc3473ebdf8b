"""Settings of the algorithm that contradict each other. verl checks the types and ranges of none of them."""

from __future__ import annotations

from omegaconf import DictConfig

from reinforcepp_verl.preflight.values import OUR_ESTIMATORS, is_number, value

ACTOR = "actor_rollout_ref.actor"
FILTER = "algorithm.filter_groups"
# The expected gradient of k1 and k3 is not that of the KL divergence; verl's "+" forms borrow the gradient of k2.
WRONG_GRADIENT = ("kl", "k1", "low_var_kl", "k3")


def check(config: DictConfig) -> list[str]:
    """Check numbers, then the KL terms, then what each estimator, loss and filter needs."""
    return [*_numbers(config), *_kl(config), *_baseline(config), *_dual_clip(config), *_filter_groups(config)]


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
    elif in_reward and estimator == "reinforcepp_baseline":
        found.append(
            "algorithm.use_kl_in_reward is true: reinforcepp_baseline takes the KL as a separate loss; set "
            f"algorithm.use_kl_in_reward=false {ACTOR}.use_kl_loss=true {ACTOR}.kl_loss_type=mse"
        )
    if as_loss and estimator in OUR_ESTIMATORS and kind in WRONG_GRADIENT:
        found.append(
            f"{ACTOR}.kl_loss_type is {kind}: as a loss its gradient is not that of the KL divergence; "
            f"set {ACTOR}.kl_loss_type=mse (k2)"
        )
    return found


def _baseline(config: DictConfig) -> list[str]:
    if value(config, "algorithm.adv_estimator") != "reinforcepp_baseline":
        return []
    found = []
    gamma, answers = value(config, "algorithm.gamma"), value(config, "actor_rollout_ref.rollout.n")
    if answers == 1:
        found.append(
            "actor_rollout_ref.rollout.n is 1: reinforcepp_baseline subtracts the mean of a prompt's answers, which "
            "leaves 0; set actor_rollout_ref.rollout.n to 2 or more, or use +method=reinforcepp"
        )
    if is_number(gamma) and 0 <= gamma < 1:
        found.append(
            f"algorithm.gamma is {gamma}: reinforcepp_baseline scores whole answers, which have no discount; set "
            "algorithm.gamma=1.0 or use +method=reinforcepp"
        )
    return found


def _dual_clip(config: DictConfig) -> list[str]:
    key = f"{ACTOR}.clip_ratio_c"
    bound, loss = value(config, key), value(config, f"{ACTOR}.policy_loss.loss_mode")
    if bound is None:
        # Ours reads null as "off"; verl's own loss compares it with 1 at the first step.
        return [f"{key} is null: the loss vanilla needs a number; set {key}=3.0"] if loss == "vanilla" else []
    if is_number(bound) and bound > 1:
        return []
    return [f"{key} is {bound!r}: the dual clip must be a number > 1; set {key}=3.0, or null for none"]


def _filter_groups(config: DictConfig) -> list[str]:
    metric = value(config, f"{FILTER}.metric")
    if metric or not value(config, f"{FILTER}.enable"):
        return []
    return [
        f"{FILTER}.enable is true, but {FILTER}.metric is {metric!r}: no group would be filtered; set "
        f"{FILTER}.metric=reward, or to a number that the reward function returns, such as acc"
    ]
