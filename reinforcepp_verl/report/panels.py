"""The panels that show runs, and which metric of a run each one shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from reinforcepp_verl.report.history import History
from reinforcepp_verl.report.metric_series import Curve
from reinforcepp_verl.report.validation_metric import is_validation_metric, validation_key


@dataclass(frozen=True)
class Panel:
    """One panel; it shows the first of `metrics` that a run recorded."""

    title: str
    metrics: tuple[str, ...] = ()
    cumulative: bool = False
    from_zero: bool = False
    validation: bool = False


PANELS = (
    Panel("Reward", ("critic/score/mean",)),
    Panel("Validation accuracy", validation=True),
    Panel("KL to the reference", ("actor/reward_kl_penalty", "actor/kl_loss", "kl_loss")),
    Panel("Policy loss", ("actor/pg_loss",)),
    Panel("Response length (tokens)", ("response_length/mean",)),
    Panel("Entropy (nats)", ("actor/entropy",)),
    Panel("Learning rate", ("actor/lr",), from_zero=True),
    Panel("Tokens (cumulative)", ("perf/total_num_tokens",), cumulative=True, from_zero=True),
)


def panel_of(metric: str) -> Panel:
    """Return the panel of one metric, `NAME` or `TITLE=NAME`."""
    title, _, name = metric.rpartition("=")
    return Panel(title or name, (name,))


def refuse_unrecorded(panels: Sequence[Panel], runs: Sequence[History]) -> None:
    """Raise ValueError for a metric that no run has: its name is probably misspelled."""
    recorded = {name for run in runs for name in run.series}
    if missing := [name for panel in panels for name in panel.metrics if name not in recorded]:
        raise ValueError(f"no run has recorded {', '.join(missing)}; metrics.jsonl has the names of all metrics")


def is_drawn(name: str, panels: Sequence[Panel] = PANELS) -> bool:
    """Return True for the metrics that a panel may show."""
    return any(name in panel.metrics or (panel.validation and is_validation_metric(name)) for panel in panels)


def shared_validation_key(runs: Iterable[History]) -> str | None:
    """Return a validation metric that all runs with validation have, so that the panel compares the same metric."""
    names = [set(run.series) for run in runs if validation_key(run.series)]
    return validation_key(set.intersection(*names)) if names else None


def shown_metric(run: History, panel: Panel, shared: str | None) -> str | None:
    """Return the metric of a run that the panel shows; `shared` is that of `shared_validation_key`."""
    wanted = (shared or validation_key(run.series),) if panel.validation else panel.metrics
    return next((key for key in wanted if key in run.series and np.isfinite(run.series[key][1]).any()), None)


def shown_curve(run: History, metric: str, panel: Panel) -> Curve:
    """Return the values that the panel shows."""
    steps, values = run.series[metric]
    return (steps, np.cumsum(values)) if panel.cumulative else (steps, values)


def shown_title(panel: Panel, metrics: Sequence[str]) -> str:
    """Return the panel's title; a task that validates by reward must not be labeled as accuracy."""
    by_reward = panel.validation and metrics and not any("/acc/" in metric for metric in metrics)
    return "Validation reward" if by_reward else panel.title
