"""Rules about the policy and its updates: entropy, KL, clipping, gradients, the learning rate."""

from __future__ import annotations

import numpy as np

from reinforcepp_verl.config import keys
from reinforcepp_verl.diagnosis.measured import SCORE, Change, Measured
from reinforcepp_verl.diagnosis.rule import Evidence, Rule

ENTROPY, KL, GRAD_NORM = "actor/entropy", "reinforcepp/kl", "actor/grad_norm"
CLIP_FRACTION, UPDATE_KL = "actor/pg_clipfrac", "actor/ppo_kl"
ZERO_SIGNAL = "reinforcepp/zero_signal_groups"

MUST_BE_FINITE = (SCORE, ENTROPY, KL, GRAD_NORM, UPDATE_KL, "actor/pg_loss")
SECOND_HALF = 0.5
COLLAPSED_SHARE, COLLAPSED_ZERO_SIGNAL = 0.1, 0.8
FEW_NATS, FEW_SIGNALS = 0.1, 0.7
EXPLODED_FACTOR, EXPLODED_NATS = 1.5, 0.2
DRIFT_KL, DRIFT_FACTOR, LOST_SHARE = 0.1, 1.5, 0.25
LARGE_CLIP_FRACTION, LARGE_UPDATE_KL = 0.2, 0.2
SPIKE_FACTOR, HIGH_SPIKE_FACTOR, SPIKE_NEIGHBORS, SPIKES = 10.0, 100.0, 10, 2
LEAST_SPIKE = 1e-3
"""Where all answers are alike, gradients are rounding errors."""
STILL_KL = 1e-3


def rises(change: Change | None) -> bool:
    """Return True if a metric is higher at the end by more than two standard errors."""
    return change is not None and change.difference > 0 and change.exceeds(2)


def falls(change: Change | None) -> bool:
    """Return True if a metric is lower at the end by more than two standard errors."""
    return change is not None and change.difference < 0 and change.exceeds(2)


def _not_finite(run: Measured) -> Evidence | None:
    found = {name: steps for name, steps in run.not_finite.items() if name in MUST_BE_FINITE}
    if not found:
        return None
    first = min(int(steps[0]) for steps in found.values())
    last = max(int(steps[-1]) for steps in found.values())
    return Evidence("; ".join(f"{name} in {len(steps)} steps" for name, steps in found.items()), first, last)


def _entropy_collapse(run: Measured) -> Evidence | None:
    entropy, score, silent = run.change(ENTROPY), run.change(SCORE, SECOND_HALF), run.last(ZERO_SIGNAL)
    if entropy is None or score is None or silent is None or rises(score):
        return None
    if entropy.after.mean > COLLAPSED_SHARE * entropy.before.mean or silent.mean < COLLAPSED_ZERO_SIGNAL:
        return None
    return Evidence.of(entropy, score, also=f"{ZERO_SIGNAL} {silent.mean:.2g} at the end")


def _little_randomness(run: Measured) -> Evidence | None:
    entropy, silent = run.change(ENTROPY), run.change(ZERO_SIGNAL)
    if entropy is None or silent is None or entropy.before.mean >= FEW_NATS or silent.before.mean <= FEW_SIGNALS:
        return None
    text = f"{ENTROPY} {entropy.before.mean:.2g} and {ZERO_SIGNAL} {silent.before.mean:.2g} in the first steps"
    return Evidence(text, int(entropy.before.steps[0]), int(entropy.before.steps[-1]))


def _entropy_explosion(run: Measured) -> Evidence | None:
    entropy, score = run.change(ENTROPY), run.change(SCORE)
    if entropy is None or score is None or rises(score):
        return None
    grew = entropy.after.mean > EXPLODED_FACTOR * entropy.before.mean + EXPLODED_NATS
    return Evidence.of(entropy, score) if grew else None


def _kl_drift(run: Measured) -> Evidence | None:
    kl, score = run.change(KL, SECOND_HALF), run.change(SCORE, SECOND_HALF)
    if kl is None or score is None or not falls(score):
        return None
    gained = run[SCORE].values.max() - run[SCORE].values.min()
    drifts = kl.after.mean > DRIFT_KL and kl.after.mean > DRIFT_FACTOR * kl.before.mean and rises(kl)
    return Evidence.of(kl, score) if drifts and -score.difference > LOST_SHARE * gained else None


def _large_updates(run: Measured) -> Evidence | None:
    moved = run.curves.get(UPDATE_KL)
    if moved is not None and moved.values.max() > LARGE_UPDATE_KL:
        far = moved.steps[moved.values > LARGE_UPDATE_KL]
        text = f"{UPDATE_KL} {moved.values.max():.2g} in step {moved.steps[moved.values.argmax()]}"
        return Evidence(text, int(far[0]), int(far[-1]))
    clipped = run.last(CLIP_FRACTION)
    if clipped is None or clipped.mean <= LARGE_CLIP_FRACTION:
        return None
    return Evidence(f"{CLIP_FRACTION} {clipped.mean:.2g}", int(clipped.steps[0]), int(clipped.steps[-1]))


def _gradient_spikes(run: Measured) -> Evidence | None:
    norm = run[GRAD_NORM]
    places = range(len(norm.values))
    medians = [np.median(norm.values[max(0, at - SPIKE_NEIGHBORS) : at + SPIKE_NEIGHBORS + 1]) for at in places]
    spikes = [at for at in places if norm.values[at] > max(SPIKE_FACTOR * medians[at], LEAST_SPIKE)]
    if len(spikes) < SPIKES and not any(norm.values[at] > HIGH_SPIKE_FACTOR * medians[at] for at in spikes):
        return None
    highest = max(spikes, key=lambda at: norm.values[at])
    text = f"{len(spikes)} spikes of {GRAD_NORM}, the highest {norm.values[highest]:.3g} at step {norm.steps[highest]}"
    return Evidence(
        f"{text}, where the steps around it have {medians[highest]:.3g}",
        int(norm.steps[spikes[0]]),
        int(norm.steps[spikes[-1]]),
    )


def _small_learning_rate(run: Measured) -> Evidence | None:
    kl, score = run.change(KL), run.change(SCORE)
    if kl is None or score is None or rises(score) or falls(score) or rises(kl) or abs(kl.after.mean) > STILL_KL:
        return None
    return Evidence.of(score, kl)


RULES = (
    Rule(
        "not_finite",
        f"{', '.join(MUST_BE_FINITE)}: one of them is NaN or infinite in a step",
        "by definition",
        "a reward is NaN, or the policy is destroyed; verl skips an update whose gradient is not finite",
        f"look at the samples of the first of these steps; {keys.NONFINITE}=drop leaves such answers out; "
        f"lower {keys.ACTOR_LR}; start from a checkpoint before these steps",
        0,
        (),
        _not_finite,
    ),
    Rule(
        "large_updates",
        f"{UPDATE_KL} above {LARGE_UPDATE_KL:g} nats per token in a step, or {CLIP_FRACTION} above "
        f"{LARGE_CLIP_FRACTION:g} at the end",
        "runs of our recipes have at most 0.02 and 0.07 in any step, at 100 times the learning rate 3.3 and 0.29; the "
        "second not for losses with a smaller clip range, as GSPO",
        "the policy leaves the clip range before the step's last update, so that many tokens have no gradient, or is "
        "destroyed",
        f"lower {keys.ACTOR_LR}, or make fewer updates per step: raise {keys.ACTOR_PPO_MINI_BATCH_SIZE}, lower "
        f"{keys.ACTOR_PPO_EPOCHS}; start from a checkpoint before these steps",
        1,
        (CLIP_FRACTION,),
        _large_updates,
    ),
    Rule(
        "entropy_collapse",
        f"{ENTROPY} at the end below {COLLAPSED_SHARE:g} of its beginning, {ZERO_SIGNAL} above "
        f"{COLLAPSED_ZERO_SIGNAL:g}, and {SCORE} no longer rises in the second half",
        "2505.22617: the reward is bought with entropy and stops when it is used up",
        "the policy answers every sample of a prompt in the same way, so that the samples have nothing to teach",
        f"raise {keys.CLIP_RATIO_HIGH} (0.28 in DAPO) or {keys.ENTROPY_COEFF}; resume from an earlier checkpoint; if "
        "large_updates applies as well, that is the cause",
        20,
        (ENTROPY, SCORE, ZERO_SIGNAL),
        _entropy_collapse,
    ),
    Rule(
        "little_randomness",
        f"{ENTROPY} below {FEW_NATS:g} nats per token and {ZERO_SIGNAL} above {FEW_SIGNALS:g} from the beginning",
        "runs of math_rlvr/arithmetic: 0.05 and 0.84 at temperature 0.3, 0.37 and 0.33 at temperature 1",
        "the samples of a prompt hardly differ: the temperature is low, or the model was trained to be certain",
        f"set {keys.TEMPERATURE}=1, raise {keys.ROLLOUT_N}, or start from a model that was trained for less long",
        10,
        (ENTROPY, ZERO_SIGNAL),
        _little_randomness,
    ),
    Rule(
        "entropy_explosion",
        f"{ENTROPY} above {EXPLODED_FACTOR:g} times its beginning plus {EXPLODED_NATS:g}, and {SCORE} does not rise",
        "runs of math_rlvr/arithmetic",
        "the updates destroy the policy, or the entropy bonus outweighs the reward",
        f"lower {keys.ACTOR_LR} or {keys.ENTROPY_COEFF}, raise {keys.TRAIN_BATCH_SIZE}",
        10,
        (ENTROPY, SCORE),
        _entropy_explosion,
    ),
    Rule(
        "kl_drift",
        f"{KL} above {DRIFT_KL:g} nats per token and {DRIFT_FACTOR:g} times that of the middle, and {SCORE} falls "
        f"in the second half, by more than {LOST_SHARE:.0%} of the range that it had",
        "2210.10760: beyond a distance from the reference the true reward falls; factor from our recipes",
        "the policy leaves the reference without being paid for it",
        f"raise the KL coefficient of your method ({keys.KL_COEF} or {keys.KL_LOSS_COEF}), lower {keys.ACTOR_LR}, or "
        "stop earlier",
        20,
        (KL, SCORE),
        _kl_drift,
    ),
    Rule(
        "gradient_spikes",
        f"{SPIKES} steps or more with {GRAD_NORM} above {SPIKE_FACTOR:g} times the median of the "
        f"{2 * SPIKE_NEIGHBORS + 1} steps around, or one above {HIGH_SPIKE_FACTOR:g} times",
        "our choice; runs of our recipes have at most 9 times the median of the run",
        "single batches with extreme advantages, or engine and trainer disagree about some answers",
        f"look at the samples of these steps; lower {keys.ACTOR_CLIP_GRAD}, raise {keys.TRAIN_BATCH_SIZE}",
        2 * SPIKE_NEIGHBORS + SPIKES,
        (GRAD_NORM,),
        _gradient_spikes,
    ),
    Rule(
        "small_learning_rate",
        f"50 steps or more, {SCORE} does not change, and {KL} does not rise and is below {STILL_KL:g} nats per token",
        "runs of math_rlvr/arithmetic",
        "the policy hardly moves",
        f"raise {keys.ACTOR_LR}; look whether the reward differs within a batch ({ZERO_SIGNAL})",
        50,
        (KL, SCORE),
        _small_learning_rate,
    ),
)
