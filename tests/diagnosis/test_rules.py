"""Each rule applies to a run with its fault, and none to a healthy one."""

from __future__ import annotations

import json

import numpy as np
import pytest

from reinforcepp_verl.diagnosis.measured import Measured, Window, window_size
from reinforcepp_verl.diagnosis.rule import diagnose
from reinforcepp_verl.diagnosis.rules import RULES, diagnose_run

STEPS = np.arange(1, 61)
ACCURACY = "val-core/reinforcepp/arithmetic/acc/mean@1"


def noisy(values, spread: float) -> np.ndarray:
    return np.broadcast_to(values, STEPS.shape) + spread * np.random.default_rng(0).standard_normal(len(STEPS))


def saturating(start: float, end: float) -> np.ndarray:
    return end + (start - end) * np.exp(-STEPS / 10)


def healthy() -> dict[str, np.ndarray]:
    """Return metrics like those of math_rlvr/arithmetic."""
    return {
        "critic/score/mean": noisy(saturating(0.4, 0.88), 0.04),
        "critic/score/min": noisy(0.0, 0.0),
        "critic/score/max": noisy(1.0, 0.0),
        "actor/entropy": noisy(saturating(0.48, 0.09), 0.01),
        "actor/grad_norm": noisy(3.0, 0.7),
        "actor/pg_clipfrac": noisy(0.005, 0.001),
        "reinforcepp/kl": noisy(saturating(0.0, 0.22), 0.03),
        "reinforcepp/zero_signal_groups": noisy(0.65, 0.1),
        "reinforcepp/length_right": noisy(3.5, 0.1),
        "reinforcepp/length_wrong": noisy(3.6, 0.2),
        "response_length/mean": noisy(3.5, 0.1),
        "response/truncated_ratio": noisy(0.01, 0.001),
        "reward/error_rate": noisy(0.0, 0.0),
        "reward/acc/mean": noisy(saturating(0.4, 0.88), 0.04),
        "training/rollout_probs_diff_mean": noisy(2e-7, 1e-8),
        "training/off_policy/trajectory_staleness/mean": noisy(0.0, 0.0),
        "actor/perf/cpu_memory_used_gb": noisy(6.0, 0.7),
    }


STILL = noisy(0.4, 0.04)
RISING = (0.48, 0.7, 0.85, 0.88, 0.87, 0.89, 0.88)
OVERFITTED = (0.48, 0.7, 0.85, 0.8, 0.7, 0.6, 0.5)
FAULTS = {
    "not_finite": {"actor/grad_norm": np.where(STEPS > 50, np.nan, noisy(3.0, 0.7))},
    "large_updates": {"actor/pg_clipfrac": noisy(0.3, 0.02)},
    "entropy_collapse": {
        "actor/entropy": saturating(0.48, 0.001),
        "reinforcepp/zero_signal_groups": noisy(0.88, 0.02),
    },
    "little_randomness": {
        "actor/entropy": noisy(0.05, 0.005),
        "reinforcepp/zero_signal_groups": noisy(0.84, 0.01),
    },
    "entropy_explosion": {"critic/score/mean": STILL - STEPS / 200, "actor/entropy": noisy(0.5 + STEPS / 30, 0.01)},
    "kl_drift": {
        "reinforcepp/kl": noisy(0.02 * STEPS, 0.03),
        "critic/score/mean": noisy(0.9 - 0.4 * (STEPS > 30) * (STEPS - 30) / 30, 0.03),
    },
    "gradient_spikes": {"actor/grad_norm": np.where((STEPS == 20) | (STEPS == 40), 90.0, noisy(3.0, 0.7))},
    "small_learning_rate": {"critic/score/mean": STILL, "reinforcepp/kl": noisy(1e-4, 1e-5)},
    "no_signal": {"reinforcepp/zero_signal_groups": noisy(0.96, 0.01)},
    "length_hacking": {"reinforcepp/length_wrong": noisy(3.6 + STEPS / 10, 0.2)},
    "reward_hacking": {
        "response_length/mean": noisy(3.5 + STEPS / 10, 0.1),
        "reward/quality/mean": noisy(0.8 - STEPS / 120, 0.03),
        "reward/acc/mean": noisy(0.5, 0.04),
    },
    "truncation": {"response/truncated_ratio": noisy(0.01 + STEPS / 100, 0.01)},
    "reward_errors": {"reward/error_rate": np.where(STEPS % 3 == 0, 0.06, 0.0)},
    "overfitting": {"critic/score/mean": noisy(0.4 + STEPS / 120, 0.03)},
    "engine_gap": {"training/rollout_probs_diff_mean": noisy(0.02, 0.001)},
    "staleness": {"training/off_policy/trajectory_staleness/mean": noisy(6.0, 0.5)},
    "memory_growth": {"actor/perf/cpu_memory_used_gb": noisy(6.0 + STEPS / 10, 0.1)},
}


def measured(changed: dict[str, np.ndarray], accuracy: tuple[float, ...] = RISING) -> Measured:
    series = {name: (STEPS, values) for name, values in {**healthy(), **changed}.items()}
    return Measured({**series, ACCURACY: (np.linspace(0, 60, len(accuracy), dtype=int), np.array(accuracy))})


def names(run: Measured) -> list[str]:
    return [finding.rule.name for finding in diagnose(run, RULES).findings]


def test_a_healthy_run_has_no_finding_and_every_rule_looked_at_it():
    diagnosis = diagnose(measured({}), RULES)
    assert (diagnosis.findings, diagnosis.not_recorded) == ([], {})


def test_there_is_a_fault_for_every_rule():
    assert list(FAULTS) == [rule.name for rule in RULES]


@pytest.mark.parametrize("rule", FAULTS)
def test_a_rule_finds_its_fault_alone(rule):
    assert names(measured(FAULTS[rule], OVERFITTED if rule == "overfitting" else RISING)) == [rule]


@pytest.mark.parametrize(
    ("steps", "height", "spikes"), [([3], 500, True), ([59], 500, True), ([58, 60], 50, True), ([30], 50, False)]
)
def test_gradient_spikes_at_the_ends_and_single_ones(steps, height, spikes):
    norm = np.where(np.isin(STEPS, steps), height * 3.0, noisy(3.0, 0.5))
    assert ("gradient_spikes" in names(measured({"actor/grad_norm": norm}))) == spikes


def test_rounding_errors_are_no_spikes():
    assert names(measured({"actor/grad_norm": np.where(np.isin(STEPS, [20, 40]), 1e-6, 0.0)})) == []


def test_a_metric_with_few_steps_is_too_early():
    run = measured({})
    run.curves["reinforcepp/length_wrong"] = Window(STEPS[:7], STEPS[:7] * 1.0)
    assert diagnose(run, RULES).too_early == {"length_hacking": 10}


def test_one_update_that_moves_the_policy_far_is_enough():
    moved = np.where(STEPS == 3, 1.5, 0.01)
    [finding] = diagnose(measured({"actor/ppo_kl": moved}), RULES).findings
    assert (finding.rule.name, finding.evidence.text) == ("large_updates", "actor/ppo_kl 1.5 in step 3")
    assert (finding.evidence.first_step, finding.evidence.last_step) == (3, 3)


def test_a_score_that_goes_down_a_little_is_no_drift():
    score = {"critic/score/mean": noisy(saturating(0.4, 0.93) - 0.08 * (STEPS > 45), 0.01)}
    assert names(measured({"reinforcepp/kl": noisy(0.15 + STEPS / 400, 0.01), **score})) == []


@pytest.mark.parametrize("steps", [0, 1, 4, 9])
def test_few_steps_are_not_a_trend(steps):
    faults = {name: values for fault in FAULTS.values() for name, values in fault.items()}
    series = {name: (STEPS[:steps], values[:steps]) for name, values in {**healthy(), **faults}.items()}
    found = {finding.rule.name for finding in diagnose(Measured(series), RULES).findings}
    assert found <= {
        "not_finite",
        "large_updates",
        "no_signal",
        "truncation",
        "reward_errors",
        "engine_gap",
        "staleness",
    }


@pytest.mark.parametrize(("used", "grows"), [(6.0 + STEPS // 10, True), (6.0 + 0 * STEPS, False)])
def test_memory_that_grows_in_large_pieces_grows(used, grows):
    assert ("memory_growth" in names(measured({"actor/perf/cpu_memory_used_gb": used}))) == grows


def test_a_metric_that_is_missing_is_named():
    run = measured({})
    del run.curves["reinforcepp/kl"]
    assert diagnose(run, RULES).not_recorded == {
        name: ["reinforcepp/kl"] for name in ("kl_drift", "small_learning_rate")
    }


def test_nan_and_the_validation_before_the_training_are_left_out():
    run = Measured({"actor/entropy": (np.array([0, 1, 2]), np.array([9.0, np.nan, 0.5]))})
    assert run["actor/entropy"].values.tolist() == [0.5]


def test_windows_are_a_tenth_of_the_steps_within_limits():
    assert [window_size(steps) for steps in (0, 10, 60, 200, 10_000)] == [5, 5, 6, 20, 50]


@pytest.mark.parametrize(
    ("score", "says"), [(0.02, "too hard"), (0.98, "too easy"), (0.0, "the same for every answer")]
)
def test_prompts_without_a_signal_are_too_easy_or_too_hard(score, says):
    scores = {f"critic/score/{name}": noisy(score, 0.0) for name in ("mean", "min", "max")}
    if score:
        scores |= {"critic/score/min": noisy(0.0, 0.0), "critic/score/max": noisy(1.0, 0.0)}
    run = measured({**FAULTS["no_signal"], **scores})
    [evidence] = [found.evidence.text for found in diagnose(run, RULES).findings if found.rule.name == "no_signal"]
    assert says in evidence


def test_a_run_folder_is_read(tmp_path):
    curves = {**healthy(), **FAULTS["engine_gap"]}
    records = ({"step": int(step), **{name: float(curves[name][step - 1]) for name in curves}} for step in STEPS)
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (tmp_path / "config.yaml").write_text("trainer: {experiment_name: a}\nseed: 1\n")
    _, diagnosis = diagnose_run(tmp_path)
    [finding] = diagnosis.findings
    assert (finding.rule.name, finding.evidence.first_step, finding.evidence.last_step) == ("engine_gap", 55, 60)
    assert finding.evidence.text == "training/rollout_probs_diff_mean 0.02"
