"""The policy loss, its KL term and rollout correction: names that verl refuses, and keys that a loss needs."""

from __future__ import annotations

from omegaconf import DictConfig

from reinforcepp_verl.algorithm.registry import ESTIMATORS, LOSSES, traits_of
from reinforcepp_verl.algorithm.rollout_gate_options import DIVERGENCES, OFF, RolloutGateOptions
from reinforcepp_verl.common.wording import did_you_mean
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.nodes import read_rollout_gate
from reinforcepp_verl.config.reading import value

KL_KINDS = ("kl", "k1", "abs", "mse", "k2", "low_var_kl", "k3")
"""The estimates of the KL that verl has; each also with a + for the gradient of k2."""
ANSWER_AGGREGATION = "seq-mean-token-sum"
GEOMETRIC_LOSSES = ("geo_mean",)
"""verl's losses in which the weight of a token changes the ratio of its whole answer."""
DUAL_CLIP_LOSSES = {"vanilla": "3.0", "dppo_tv": "20.0", "dppo_kl": "20.0"}
"""verl's losses that compute with clip_ratio_c, and a value for each."""
BYPASS_LOSS_TYPES = ("ppo_clip", "reinforce")
WEIGHT_LEVELS = ("token", "sequence")
REJECTIONS = (
    *("token_k1", "token_k2", "token_k3", "seq_sum_k1", "seq_sum_k2", "seq_sum_k3", "seq_mean_k1", "seq_mean_k2"),
    *("seq_mean_k3", "seq_max_k2", "seq_max_k3"),
)


def check(config: DictConfig) -> list[str]:
    """Check the estimate of the KL, the keys of the loss, what a loss of answers needs, then rollout correction."""
    return [
        *_kl_kinds(config),
        *_dual_clip(config),
        *_own_keys(config),
        *_whole_answers(config),
        *_bypass(config),
        *_correction(config),
        *_gate(config),
    ]


def _kl_kinds(config: DictConfig) -> list[str]:
    used = {keys.KL_PENALTY: keys.USE_KL_IN_REWARD, keys.KL_LOSS_TYPE: keys.USE_KL_LOSS}
    return [
        f"{key} is {given}: verl has no such estimate of the KL{did_you_mean(given, KL_KINDS)}; set {key} to one of "
        f"{', '.join(KL_KINDS)}"
        for key, switch in used.items()
        if value(config, switch) and str(given := value(config, key)).removesuffix("+") not in KL_KINDS
    ]


def _dual_clip(config: DictConfig) -> list[str]:
    # For our loss null means off; these of verl's compute with it.
    loss = _clipping_loss(config)
    if loss not in DUAL_CLIP_LOSSES or value(config, keys.CLIP_RATIO_C) is not None:
        return []
    return [
        f"{keys.CLIP_RATIO_C} is null: the loss {loss} needs a number; set {keys.CLIP_RATIO_C}={DUAL_CLIP_LOSSES[loss]}"
    ]


def _clipping_loss(config: DictConfig) -> str:
    loss = str(value(config, keys.LOSS_MODE))
    clips = loss == "bypass_mode" and value(config, keys.BYPASS_LOSS_TYPE) == "ppo_clip"
    return "vanilla" if clips else loss


def _own_keys(config: DictConfig) -> list[str]:
    loss = value(config, keys.LOSS_MODE)
    if loss == "dro" and value(config, keys.DRO_BETA) is None:
        return [f"{keys.DRO_BETA} is null: the loss dro needs a number > 0; set {keys.DRO_BETA}=1.0"]
    if loss == "clip_cov" and value(config, keys.CLIP_COV_RATIO) == 0:
        return [f"{keys.CLIP_COV_RATIO} is 0: the loss clip_cov needs a number > 0; set {keys.CLIP_COV_RATIO}=0.0002"]
    return []


def _whole_answers(config: DictConfig) -> list[str]:
    """Check that nothing treats single tokens if the loss takes the answer as one action."""
    loss = LOSSES.get(value(config, keys.LOSS_MODE))
    if loss is None or not loss.whole_answers:
        return []
    reason = f"the loss {loss.name} takes the answer as one action"
    mode, weights = value(config, keys.LOSS_AGG_MODE), value(config, keys.ROLLOUT_IS)
    rejections, traits = value(config, keys.ROLLOUT_RS), traits_of(value(config, keys.ADV_ESTIMATOR))
    found = []
    if mode != ANSWER_AGGREGATION:
        found.append(f"{keys.LOSS_AGG_MODE} is {mode}: {reason}; set {keys.LOSS_AGG_MODE}={ANSWER_AGGREGATION}")
    if traits is not None and not traits.whole_answers:
        found.append(
            f"{keys.LOSS_MODE} is {loss.name}: it takes the answer as one action, and "
            f"{value(config, keys.ADV_ESTIMATOR)} gives each token its own advantage; set "
            f"{keys.LOSS_MODE}=reinforcepp, or use +method=reinforce or +method=rloo"
        )
    if weights == "token":
        found.append(f"{keys.ROLLOUT_IS} is token: {reason}; set {keys.ROLLOUT_IS}=sequence")
    if rejections and "token_" in str(rejections):
        found.append(f"{keys.ROLLOUT_RS} is {rejections}: {reason}; use a rejection of answers (seq_...)")
    return found


def _bypass(config: DictConfig) -> list[str]:
    """Check verl's loss for bypass mode, which takes the old log-probabilities for those of the rollout."""
    if value(config, keys.LOSS_MODE) != "bypass_mode":
        return []
    if not value(config, keys.BYPASS_MODE):
        return [
            f"{keys.LOSS_MODE} is bypass_mode, but {keys.BYPASS_MODE} is false: the loss would take the trainer's "
            f"log-probabilities for the rollout's; set {keys.BYPASS_MODE}=true"
        ]
    kind = value(config, keys.BYPASS_LOSS_TYPE)
    if kind not in BYPASS_LOSS_TYPES:
        return [
            f"{keys.BYPASS_LOSS_TYPE} is {kind}: verl has no such loss; set it to one of {', '.join(BYPASS_LOSS_TYPES)}"
        ]
    given, passed = (value(config, key) for key in (keys.ROLLOUT_CORRECTION, keys.LOSS_CORRECTION))
    if given == passed:
        return []
    return [
        f"{keys.LOSS_CORRECTION} differs from {keys.ROLLOUT_CORRECTION}: the loss reads only the former; remove it, or "
        f"set it to ${{{keys.ROLLOUT_CORRECTION}}}"
    ]


def _correction(config: DictConfig) -> list[str]:
    levels, rejections = value(config, keys.ROLLOUT_IS), value(config, keys.ROLLOUT_RS)
    if levels and levels not in WEIGHT_LEVELS:
        return [
            f"{keys.ROLLOUT_IS} is {levels}: verl has no such weights{did_you_mean(levels, WEIGHT_LEVELS)}; set "
            f"{keys.ROLLOUT_IS} to one of {', '.join(WEIGHT_LEVELS)}, or to null"
        ]
    for name in (part.strip() for part in str(rejections or "").split(",") if part.strip()):
        if name not in REJECTIONS:
            return [
                f"{keys.ROLLOUT_RS} is {rejections}: verl has no rejection {name}{did_you_mean(name, REJECTIONS)}; set "
                f"{keys.ROLLOUT_RS} to one of {', '.join(REJECTIONS)}, or to null"
            ]
    if rejections and value(config, keys.ROLLOUT_RS_THRESHOLD) is None:
        return [
            f"{keys.ROLLOUT_RS_THRESHOLD} is null: {keys.ROLLOUT_RS}={rejections} needs bounds; set "
            f"{keys.ROLLOUT_RS_THRESHOLD}, for example to '0.5_2.0' for a ratio or to 0.01 for a divergence"
        ]
    asked = [key for key in (keys.ROLLOUT_IS, keys.ROLLOUT_RS, keys.BYPASS_MODE) if value(config, key)]
    if asked and not value(config, keys.CALCULATE_LOG_PROBS):
        return [
            f"{keys.CALCULATE_LOG_PROBS} is false: {asked[0]} needs the engine's log-probabilities; set "
            f"{keys.CALCULATE_LOG_PROBS}=true"
        ]
    skipped = [key for key in asked if key != keys.BYPASS_MODE]
    if not (skipped and value(config, keys.BYPASS_MODE) and value(config, keys.LOSS_MODE) != "bypass_mode"):
        return []
    return [
        f"{keys.BYPASS_MODE} is true: with it verl skips {' and '.join(skipped)}; set {keys.BYPASS_MODE}=false, or "
        f"{keys.LOSS_MODE}=bypass_mode for verl's own loss"
    ]


def _gate(config: DictConfig) -> list[str]:
    try:
        gate = read_rollout_gate(config)
    except ValueError as error:
        return [str(error)]
    if gate == RolloutGateOptions():
        return []
    name = keys.ROLLOUT_GATE_DIVERGENCE
    if gate.divergence == OFF:
        return [f"{keys.ROLLOUT_GATE} is set, but {name} is {OFF}; set {name} to one of {', '.join(DIVERGENCES)}"]
    if not value(config, keys.CALCULATE_LOG_PROBS):
        return [
            f"{keys.CALCULATE_LOG_PROBS} is false: {name}={gate.divergence} needs the engine's log-probabilities; set "
            f"{keys.CALCULATE_LOG_PROBS}=true"
        ]
    if value(config, keys.BYPASS_MODE):
        return [
            f"{keys.BYPASS_MODE} is true: the trainer's log-probabilities are then those of the engine, which "
            f"{name}={gate.divergence} compares; set {keys.BYPASS_MODE}=false"
        ]
    loss = value(config, keys.LOSS_MODE)
    if gate.level == "token" and (loss in GEOMETRIC_LOSSES or (loss in LOSSES and LOSSES[loss].whole_answers)):
        return [
            f"{keys.ROLLOUT_GATE_LEVEL} is token: the loss {loss} has one ratio for a whole answer; set "
            f"{keys.ROLLOUT_GATE_LEVEL}=answer, or {keys.LOSS_MODE}=reinforcepp"
        ]
    if value(config, keys.ADV_ESTIMATOR) not in ESTIMATORS:
        return [
            f"{name} is {gate.divergence}: only the estimators {', '.join(ESTIMATORS)} are trained with it; set "
            f"{name}={OFF}"
        ]
    return []
