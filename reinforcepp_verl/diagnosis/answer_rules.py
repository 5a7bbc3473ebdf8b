"""Rules about answers and rewards: groups without a signal, lengths, truncation, errors, hacking, overfitting."""

from __future__ import annotations

import numpy as np

from reinforcepp_verl.config import keys
from reinforcepp_verl.diagnosis.measured import MAIN_VALIDATION, SCORE, Change, Measured
from reinforcepp_verl.diagnosis.policy_rules import ENTROPY, ZERO_SIGNAL, rises
from reinforcepp_verl.diagnosis.rule import Evidence, Rule

LENGTH, LENGTH_RIGHT, LENGTH_WRONG = "response_length/mean", "reinforcepp/length_right", "reinforcepp/length_wrong"
TRUNCATED, ERRORS = "response/truncated_ratio", "reward/error_rate"
HIGHEST, LOWEST = "critic/score/max", "critic/score/min"

SILENT_SHARE, LOW_ENTROPY = 0.9, 0.05
GROWTH_OF_WRONG = 1.5
TRUNCATED_SHARE = 0.25
ERROR_SHARE = 0.01
GROWTH_OF_HACKING = 1.2
FALL_IN_ERRORS, FALLEN_SHARE = 4.0, 0.25
FEWEST_VALIDATIONS, SMOOTHED, LOSS_IN_ERRORS = 6, 3, 3.0
ACCURACY = "reward/acc/mean"


def _no_signal(run: Measured) -> Evidence | None:
    silent, score = run.last(ZERO_SIGNAL), run.last(SCORE)
    if silent is None or score is None or silent.mean <= SILENT_SHARE:
        return None
    text = f"{ZERO_SIGNAL} {silent.mean:.2g}; {SCORE} {score.mean:.3g} ({_difficulty(run)})"
    if (entropy := run.last(ENTROPY)) is not None and entropy.mean < LOW_ENTROPY:
        text += f"; {ENTROPY} {entropy.mean:.2g}, so that all answers to a prompt are much the same"
    return Evidence(text, int(silent.steps[0]), int(silent.steps[-1]))


def _difficulty(run: Measured) -> str:
    """Say where the mean score lies between the lowest and the highest of the run."""
    lowest = min(float(run[name].values.min()) for name in (LOWEST, SCORE) if name in run)
    highest = max(float(run[name].values.max()) for name in (HIGHEST, SCORE) if name in run)
    score = run.last(SCORE)
    if highest == lowest or score is None:
        return "the same for every answer of the run"
    return "too hard" if score.mean < (lowest + highest) / 2 else "too easy"


def _length_hacking(run: Measured) -> Evidence | None:
    wrong, right = run.change(LENGTH_WRONG), run.change(LENGTH_RIGHT)
    if wrong is None or right is None or not rises(wrong):
        return None
    grew = wrong.after.mean > GROWTH_OF_WRONG * wrong.before.mean and wrong.difference > 2 * right.difference
    return Evidence.of(wrong, right) if grew else None


def _reward_hacking(run: Measured) -> Evidence | None:
    score, length = run.change(SCORE), run.change(LENGTH)
    if score is None or length is None or not rises(score):
        return None
    if length.after.mean < GROWTH_OF_HACKING * length.before.mean:
        return None
    if rises(run.change(ACCURACY)):
        return None
    others = [run.change(name) for name in run.curves if name.startswith("reward/") and name.endswith("/mean")]
    fallen = [change for change in others if change is not None and _falls_far(change)]
    return Evidence.of(score, length, *fallen) if fallen else None


def _falls_far(change: Change) -> bool:
    far = -change.difference > FALLEN_SHARE * abs(change.before.mean)
    return far and change.exceeds(FALL_IN_ERRORS)


def _truncation(run: Measured) -> Evidence | None:
    share = run.last(TRUNCATED)
    if share is None or share.mean <= TRUNCATED_SHARE:
        return None
    return Evidence(f"{TRUNCATED} {share.mean:.2g}", int(share.steps[0]), int(share.steps[-1]))


def _reward_errors(run: Measured) -> Evidence | None:
    errors = run[ERRORS]
    if errors.mean <= ERROR_SHARE:
        return None
    failed = errors.steps[errors.values > 0]
    text = f"{ERRORS} {errors.mean:.2g} on average, {errors.values.max():.2g} in the worst of {len(failed)} steps"
    return Evidence(text, int(failed[0]), int(failed[-1]))


def _overfitting(run: Measured) -> Evidence | None:
    validated, score = run[MAIN_VALIDATION], run[SCORE]
    if len(validated.values) < FEWEST_VALIDATIONS:
        return None
    # Means of neighbors: the best of many single validations would be the luckiest.
    smooth = np.convolve(validated.values, np.full(SMOOTHED, 1 / SMOOTHED), mode="valid")
    best = int(smooth.argmax())
    noise = (validated.values[SMOOTHED // 2 : -(SMOOTHED // 2)] - smooth).std()
    if smooth[best] - smooth[-1] <= LOSS_IN_ERRORS * noise:
        return None
    begin = validated.steps[best + SMOOTHED // 2]
    since = run.change(SCORE, float(np.searchsorted(score.steps, begin) / len(score.steps)))
    if since is None or not rises(since):
        return None
    text = f"{run.validation} {smooth[best]:.3g} around step {begin}, {smooth[-1]:.3g} at the end; {since}"
    return Evidence(text, int(begin), int(validated.steps[-1]))


RULES = (
    Rule(
        "no_signal",
        f"{ZERO_SIGNAL} above {SILENT_SHARE:g} at the end: all answers to a prompt score the same",
        "2503.14476 (DAPO) drops such groups; runs of our recipes have at most 0.85 at the end",
        "the prompts are too easy or too hard for the policy, the reward does not tell answers apart, or the sampling "
        "is not random enough; methods that compare within a group learn nothing from such prompts, the others little",
        f"too hard: easier prompts in {keys.TRAIN_FILES}, or a start from demonstrations; too easy: harder prompts; "
        f"the same for every answer: correct {keys.CUSTOM_REWARD_FUNCTION}; else raise {keys.ROLLOUT_N}, set "
        f"{keys.TEMPERATURE}=1, or, while some prompts tell answers apart, {keys.FILTER_GROUPS_ENABLE}=true",
        5,
        (ZERO_SIGNAL, SCORE),
        _no_signal,
    ),
    Rule(
        "length_hacking",
        f"{LENGTH_WRONG} above {GROWTH_OF_WRONG:g} times its beginning, and it grows more than twice as much as "
        f"{LENGTH_RIGHT}",
        "2503.20783 (Dr.GRPO): wrong answers grow if their length divides their penalty",
        "wrong answers become longer without becoming right: the loss or the reward pays for length",
        f"set {keys.LOSS_AGG_MODE}=token-mean or seq-mean-token-sum-norm, or the overlong penalty of the math reward "
        f"({keys.REWARD_KWARGS}.overlong_buffer_tokens)",
        10,
        (LENGTH_WRONG, LENGTH_RIGHT),
        _length_hacking,
    ),
    Rule(
        "reward_hacking",
        f"{SCORE} rises, {LENGTH} above {GROWTH_OF_HACKING:g} times its beginning, and another number that the reward "
        f"function returns falls by more than {FALLEN_SHARE:.0%} and {FALL_IN_ERRORS:g} standard errors, while no "
        "accuracy rises",
        "runs of rlhf/length_bias_cpu",
        "if more of that number is better: the score pays for length, and what you wanted gets worse",
        f"raise the KL coefficient of your method ({keys.KL_COEF} or {keys.KL_LOSS_COEF}); correct the "
        f"reward ({keys.CUSTOM_REWARD_FUNCTION}) or train the reward model on pairs of equal length",
        10,
        (SCORE, LENGTH),
        _reward_hacking,
    ),
    Rule(
        "truncation",
        f"{TRUNCATED} above {TRUNCATED_SHARE:g} at the end",
        "2503.14476 (DAPO), section 3.4: truncated answers are noise in the reward",
        "answers end at the token limit instead of an end token",
        f"raise {keys.MAX_RESPONSE_LENGTH}, or use the overlong penalty ({keys.REWARD_KWARGS}.overlong_buffer_tokens); "
        "if answers never end, look at the end token of the tokenizer; if the reward pays for length, correct "
        "that first",
        5,
        (TRUNCATED,),
        _truncation,
    ),
    Rule(
        "reward_errors",
        f"{ERRORS} above {ERROR_SHARE:g} on average",
        f"our choice: such answers teach what {keys.REWARD_ERRORS}.score says, not whether they are right",
        "the reward function fails on some answers",
        f"the first tracebacks are in train.log; correct {keys.CUSTOM_REWARD_FUNCTION}",
        1,
        (ERRORS,),
        _reward_errors,
    ),
    Rule(
        "overfitting",
        f"{FEWEST_VALIDATIONS} validations or more; their mean over {SMOOTHED} neighbors is at the end lower than at "
        f"its best by more than {LOSS_IN_ERRORS:g} standard errors, while {SCORE} rose since",
        "paper, table 2: few training prompts are learned by heart",
        "the training prompts are learned by heart, or the reward is exploited in a way that validation does not pay",
        f"more prompts in {keys.TRAIN_FILES}, fewer steps ({keys.TOTAL_TRAINING_STEPS}), a higher KL coefficient; "
        "the checkpoint of the best validation is the better model",
        10,
        (SCORE, MAIN_VALIDATION),
        _overfitting,
    ),
)
