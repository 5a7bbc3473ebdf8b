"""MetricGuards on metrics: what is counted, what only warns, and when a run ends."""

from __future__ import annotations

import json
import logging
import math

import pytest

from reinforcepp_verl.config import search_path
from reinforcepp_verl.config.guard_options import GuardOptions
from reinforcepp_verl.guards import GuardError
from reinforcepp_verl.guards.metric_guards import MetricGuards

NAN, INFINITE = math.nan, math.inf
FINE = {"actor/grad_norm": 0.3, "actor/loss": -0.1, "actor/entropy": 1.0, "training/rollout_probs_diff_mean": 1e-4}


@pytest.fixture(autouse=True)
def warnings_are_seen(caplog):
    """Whatever level another test's imports set on the root logger."""
    caplog.set_level(logging.WARNING, logger="verl")


def guards(**options):
    return MetricGuards(GuardOptions(**options))


@pytest.mark.parametrize("sick", [{"actor/grad_norm": NAN}, {"actor/loss": INFINITE}, {"critic/grad_norm": -INFINITE}])
def test_a_skipped_update_is_counted_and_logged_as_a_warning(sick, caplog):
    metric_guards = guards()
    assert metric_guards.after_update(FINE | sick) == {"guards/skipped_updates": 1.0}
    assert next(iter(sick)) in caplog.text and "guards.max_skipped_updates=3" in caplog.text
    assert metric_guards.after_update(FINE) == {"guards/skipped_updates": 0.0}


def test_only_skipped_updates_in_a_row_end_the_run():
    metric_guards = guards(max_skipped_updates=2)
    for metrics in (FINE | {"actor/grad_norm": NAN}, FINE, FINE | {"actor/grad_norm": NAN}):
        metric_guards.after_update(metrics)
    with pytest.raises(
        GuardError, match="for 2 steps in a row actor/grad_norm is nan.*max_skipped_updates=2.*learning"
    ):
        metric_guards.after_update(FINE | {"actor/grad_norm": NAN})


def test_a_step_of_critic_warm_up_has_no_update_and_is_fine():
    assert guards(max_update_kl=0.1).after_update({"critic/grad_norm": 0.1}) == {"guards/skipped_updates": 0.0}


@pytest.mark.parametrize(
    ("options", "metric", "fine", "beyond"),
    [
        ({"max_kl": 0.5}, "reinforcepp/kl", 0.5, 0.51),
        ({"max_update_kl": 0.1}, "actor/ppo_kl", -0.2, 0.2),
        ({"min_entropy": 0.2}, "actor/entropy", 0.2, 0.1),
        ({"max_entropy": 3.0}, "actor/entropy", 3.0, 3.1),
        ({"max_entropy": 3.0}, "actor/entropy", 3.0, NAN),
        ({}, "training/rollout_probs_diff_mean", 0.05, 0.06),
    ],
)
def test_a_limit_warns_first_and_ends_the_run_when_patience_is_exceeded(options, metric, fine, beyond, caplog):
    metric_guards = guards(patience=3, **options)
    for value in (fine, beyond, beyond, fine, beyond, beyond):
        metric_guards.after_update(FINE | {metric: value})
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    option = next(iter(options), "max_logprob_gap")
    with pytest.raises(GuardError, match=rf"for 3 steps in a row {metric} is .* guards\.{option}=.*patience=3"):
        metric_guards.after_update(FINE | {metric: beyond})


def test_a_limit_without_its_metric_is_refused_and_the_gap_needs_none():
    with pytest.raises(GuardError, match=r"guards.max_kl is 1, but the step reports no reinforcepp/kl; set guards"):
        guards(max_kl=1.0).after_update(FINE)
    guards().after_update({"actor/grad_norm": 0.3})
    guards(max_logprob_gap=None).after_update(FINE | {"training/rollout_probs_diff_mean": 0.9})


def step(scores, advantages):
    return {
        "critic/score/min": min(scores),
        "critic/score/max": max(scores),
        "critic/advantages/min": min(advantages),
        "critic/advantages/max": max(advantages),
    }


SIGNAL = step([0.0, 1.0], [-1.0, 1.0])


@pytest.mark.parametrize(
    "no_signal",
    [step([1.0, 1.0], [0.0, 0.0]), step([1.0, 1.0], [-0.1, 0.1]), step([0.0, 1.0], [0.0, 0.0])],
    ids=["all solved", "only the KL differs", "each group alike"],
)
def test_steps_without_a_signal_end_the_run_after_their_record(no_signal):
    metric_guards = guards(no_signal_steps=2)
    counts = []
    for metrics in (no_signal, SIGNAL, no_signal):
        metric_guards.after_step(metrics)  # verl's metrics are computed twice for a step that is validated
        counts.append(metric_guards.after_step(metrics)["guards/steps_without_signal"])
        metric_guards.raise_if_tripped()
    assert counts == [1.0, 0.0, 1.0]
    assert metric_guards.after_step(no_signal) == {"guards/steps_without_signal": 2.0}
    with pytest.raises(GuardError, match=r"for 2 steps in a row all scores .*no_signal_steps=2.*filter_groups"):
        metric_guards.raise_if_tripped()


def test_without_an_end_the_steps_are_only_counted():
    metric_guards = guards(no_signal_steps=None)
    for _ in range(100):
        metrics = metric_guards.after_step(step([1.0], [0.0]))
        metric_guards.raise_if_tripped()
    assert metrics == {"guards/steps_without_signal": 100.0}


def test_a_step_without_scores_and_advantages_does_not_count_as_one_without_signal():
    assert guards().after_step(FINE) == {"guards/steps_without_signal": 0.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_skipped_updates": 0}, "guards.max_skipped_updates is 0: it must be 1 or more"),
        ({"no_signal_steps": 0}, "guards.no_signal_steps is 0: it must be 1 or more"),
        ({"patience": 0}, "guards.patience is 0: it must be 1 or more"),
        ({"max_kl": -1.0}, "guards.max_kl is -1.0: it must be above 0"),
        ({"hang_deadline_s": 0.0}, "guards.hang_deadline_s is 0.0: it must be above 0"),
        ({"max_logprob_gap": NAN}, "guards.max_logprob_gap is nan: it must be above 0"),
        ({"min_entropy": 2.0, "max_entropy": 1.0}, "guards.min_entropy is 2.0: it must be below guards.max_entropy"),
    ],
)
def test_values_that_are_not_valid_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GuardOptions(**options)


def test_the_page_on_faults_lists_every_option_with_its_default():
    page = (search_path.config_dir().parent / "docs" / "faults.md").read_text()
    for name, default in vars(GuardOptions()).items():
        assert f"\n| `{name}` | {json.dumps(default)} |" in page, name
