"""Rules about answers and rewards: groups without a signal, lengths, truncation, errors, hacking, overfitting."""

from __future__ import annotations

from reinforcepp_verl.config import keys
from reinforcepp_verl.diagnosis.measured import SCORE, Measured
from reinforcepp_verl.diagnosis.policy_rules import ENTROPY, ZERO_SIGNAL, falls, rises
from reinforcepp_verl.diagnosis.rule import Evidence, Rule

LENGTH, LENGTH_RIGHT, LENGTH_WRONG = "response_length/mean", "reinforcepp/length_right", "reinforcepp/length_wrong"
TRUNCATED, ERRORS = "response/truncated_ratio", "reward/error_rate"
HIGHEST, LOWEST = "critic/score/max", "critic/score/min"

SILENT_SHARE, LOW_ENTROPY = 0.9, 0.05
GROWTH_OF_WRONG = 1.5
TRUNCATED_SHARE = 0.25
ERROR_SHARE = 0.01
GROWTH_OF_HACKING = 1.2
VALIDATION_LOSS = 0.03
LATEST_BEGIN = 0.8
"""So that a second window of steps is left to compare with."""


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
    others = [run.change(name) for name in run.curves if name.startswith("reward/") and name.endswith("/mean")]
    fallen = [change for change in others if change is not None and falls(change)]
    return Evidence.of(score, length, *fallen) if fallen else None


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
    score = run.change(SCORE)
    if score is None or run.validation is None:
        return None
    validated = run[run.validation]
    best = int(validated.values.argmax())
    lost = validated.values[best] - validated.values[-1]
    since = run.change(SCORE, min(validated.steps[best] / run[SCORE].steps[-1], LATEST_BEGIN))
    if lost <= VALIDATION_LOSS or since is None or since.difference <= 0:
        return None
    text = f"{run.validation} {validated.values[best]:.3g} at step {validated.steps[best]}, {validated.values[-1]:.3g} "
    return Evidence(
        f"{text}at step {validated.steps[-1]}; {since}", int(validated.steps[best]), int(validated.steps[-1])
    )


RULES = (
    Rule(
        "no_signal",
        f"{ZERO_SIGNAL} above {SILENT_SHARE:g} at the end: all answers to a prompt score the same",
        "2503.14476 (DAPO) drops such groups; runs of our recipes have at most 0.85",
        "the prompts are too easy or too hard for the policy, the reward does not tell answers apart, or the sampling "
        "is not random enough",
        f"change {keys.TRAIN_FILES} to prompts of another difficulty, set {keys.FILTER_GROUPS_ENABLE}=true, raise "
        f"{keys.ROLLOUT_N}, or set {keys.TEMPERATURE}=1",
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
        (LENGTH_WRONG, LENGTH_RIGHT),
        _length_hacking,
    ),
    Rule(
        "reward_hacking",
        f"{SCORE} rises, {LENGTH} above {GROWTH_OF_HACKING:g} times its beginning, and another number that the reward "
        "function returns falls",
        "runs of rlhf/length_bias_cpu",
        "the score pays for length, and what you wanted gets worse",
        f"raise {keys.KL_COEF} or {keys.KL_LOSS_COEF}; correct the reward ({keys.CUSTOM_REWARD_FUNCTION}) or train the "
        "reward model on pairs of equal length",
        (SCORE, LENGTH),
        _reward_hacking,
    ),
    Rule(
        "truncation",
        f"{TRUNCATED} above {TRUNCATED_SHARE:g} at the end",
        "2503.14476 (DAPO), section 3.4: truncated answers are noise in the reward",
        "answers end at the token limit instead of an end token",
        f"raise {keys.MAX_RESPONSE_LENGTH}, or use the overlong penalty ({keys.REWARD_KWARGS}.overlong_buffer_tokens); "
        "if answers never end, look at the end token of the tokenizer",
        (TRUNCATED,),
        _truncation,
    ),
    Rule(
        "reward_errors",
        f"{ERRORS} above {ERROR_SHARE:g} on average",
        f"our choice: such answers teach what {keys.REWARD_ERRORS}.score says, not whether they are right",
        "the reward function fails on some answers",
        f"the first tracebacks are in train.log; correct {keys.CUSTOM_REWARD_FUNCTION}",
        (ERRORS,),
        _reward_errors,
    ),
    Rule(
        "overfitting",
        f"the last validation is lower than the best by more than {VALIDATION_LOSS:g}, while {SCORE} rose since",
        "paper, table 2: few training prompts are learned by heart",
        "the training prompts are learned by heart, or the reward is exploited in a way that validation does not pay",
        f"more prompts in {keys.TRAIN_FILES}, fewer steps ({keys.TOTAL_TRAINING_STEPS}), a higher {keys.KL_COEF}; the "
        "checkpoint of the best validation is the better model",
        (SCORE,),
        _overfitting,
    ),
)
