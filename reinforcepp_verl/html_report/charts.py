"""Charts as data: lines with bands over the steps, which the page's script draws."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from reinforcepp_verl.report.groups import Group, stacked
from reinforcepp_verl.report.history import History
from reinforcepp_verl.report.metric_series import Curve
from reinforcepp_verl.report.panels import (
    PANELS,
    Panel,
    shared_validation_key,
    shown_curve,
    shown_metric,
    shown_title,
)
from reinforcepp_verl.report.thinning import thinned, thinned_band

BUCKETS = 400
CURVES = (
    *PANELS,
    Panel("Gradient norm", ("actor/grad_norm",)),
    Panel("Clipped ratios (share of tokens)", ("actor/pg_clipfrac",), from_zero=True),
    Panel("Groups of equal rewards (share)", ("reinforcepp/zero_signal_groups",), from_zero=True),
    Panel("Engine against trainer: difference of probabilities", ("training/rollout_probs_diff_mean",), from_zero=True),
)
MEMORY = (
    Panel("Memory of the accelerator, allocated (GB)", ("actor/perf/max_memory_allocated_gb",), from_zero=True),
    Panel("Memory of the machine (GB)", ("actor/perf/cpu_memory_used_gb",), from_zero=True),
)
Chart = dict[str, Any]
Line = dict[str, Any]


def chart(title: str, names: Iterable[str], lines: Sequence[Line], *, from_zero: bool = False) -> Chart:
    """Return a chart; `names` are the metrics in it."""
    return {"title": title, "names": ", ".join(names), "zero": from_zero, "lines": list(lines)}


def line(label: str, color: int, curve: Curve, *, thin: bool = False, dots: bool = False) -> Line:
    """Return a line; `color` counts the colors, `thin` ones have no entry in the legend."""
    steps, values = thinned(*curve, buckets=BUCKETS)
    return {"label": label, "color": color, "thin": thin, "dots": dots, "x": steps, "y": values}


def band(steps: np.ndarray, low: np.ndarray, high: np.ndarray) -> dict[str, Any]:
    """Return the band of a line."""
    steps, low, high = thinned_band(steps, low, high, buckets=BUCKETS)
    return {"band": {"x": steps, "low": low, "high": high}}


def charts_of(panels: Sequence[Panel], groups: Sequence[Group]) -> list[Chart]:
    """Return a chart for each panel that a run has a metric of."""
    shared = shared_validation_key(run for group in groups for run in group.members)
    charts = []
    for panel in panels:
        metrics: dict[str, None] = {}
        lines: list[Line] = []
        for color, group in enumerate(groups):
            found = [(run, name) for run in group.members if (name := shown_metric(run, panel, shared))]
            metrics.update(dict.fromkeys(name for _, name in found))
            lines += _lines(group, color, panel, found)
        if lines:
            charts.append(chart(shown_title(panel, list(metrics)), metrics, lines, from_zero=panel.from_zero))
    return charts


def _lines(group: Group, color: int, panel: Panel, found: Sequence[tuple[History, str]]) -> list[Line]:
    curves = [shown_curve(run, name, panel) for run, name in found]
    if len(group.members) == 1:
        return [line(group.label, color, curve, dots=panel.validation) for curve in curves]
    seeds = [line(f"seed {run.seed}", color, curve, thin=True) for (run, _), curve in zip(found, curves, strict=True)]
    if (of_all := stacked(curves)) is None:
        return seeds
    steps, values = of_all
    mean = line(group.label, color, (steps, values.mean(axis=0)), dots=panel.validation)
    return [*seeds, mean | band(steps, values.min(axis=0), values.max(axis=0))]
