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

PIECES = 400
"""A longer curve is cut into about this many pieces: it shows their means, and their lowest and highest values."""
CURVES = (
    *PANELS,
    Panel("Gradient norm", ("actor/grad_norm",)),
    Panel("Clipped ratios (share of tokens)", ("actor/pg_clipfrac",), from_zero=True),
    Panel("Groups of equal rewards (share)", ("reinforcepp/zero_signal_groups",), from_zero=True),
    Panel("Engine and trainer: mean gap of probabilities", ("training/rollout_probs_diff_mean",), from_zero=True),
)
MEMORY = (
    Panel("Memory of the accelerator (GB)", ("actor/perf/max_memory_allocated_gb",), from_zero=True),
    Panel("Memory of the machine (GB)", ("actor/perf/cpu_memory_used_gb",), from_zero=True),
)
Chart = dict[str, Any]
Line = dict[str, Any]


def chart(
    title: str, names: Iterable[str], lines: Sequence[Line], *, from_zero: bool = False, legend: bool = False
) -> Chart:
    """Return a chart; `names` are the metrics in it, `legend` asks for one of its own."""
    return {"title": title, "names": ", ".join(names), "zero": from_zero, "legend": legend, "lines": list(lines)}


def line(
    label: str,
    color: int,
    steps: np.ndarray,
    values: np.ndarray,
    band: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    dots: bool = False,
) -> Line:
    """Return a line with the band between two curves; `color` is the number of its color."""
    size = -(-len(steps) // PIECES)
    if size > 1:
        low, high = band or (values, values)
        band = _pieces(low, size, np.inf).min(axis=1), _pieces(high, size, -np.inf).max(axis=1)
        starts = np.arange(0, len(steps), size)
        steps, values = steps[np.minimum(starts + size // 2, len(steps) - 1)], _means(values, size)
    bounds = {} if band is None else {"low": band[0], "high": band[1]}
    return {"label": label, "color": color, "dots": dots, "piece": size, "x": steps, "y": values, **bounds}


def _pieces(values: np.ndarray, size: int, missing: float) -> np.ndarray:
    """Return the values cut into rows of `size`; `missing` takes the place of what is not finite."""
    padded = np.full(-(-len(values) // size) * size, missing)
    padded[: len(values)] = np.where(np.isfinite(values), values, missing)
    return padded.reshape(-1, size)


def _means(values: np.ndarray, size: int) -> np.ndarray:
    counts = _pieces(np.isfinite(values).astype(float), size, 0.0).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return _pieces(values, size, 0.0).sum(axis=1) / counts


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
        return [line(group.label, color, *curve, dots=panel.validation) for curve in curves]
    seeds = [_of_a_seed(run, color, curve) for (run, _), curve in zip(found, curves, strict=True)]
    if (of_all := stacked(curves)) is None:
        return seeds
    steps, values = of_all
    bounds = values.min(axis=0), values.max(axis=0)
    return [*seeds, line(group.label, color, steps, values.mean(axis=0), bounds, dots=panel.validation)]


def _of_a_seed(run: History, color: int, curve: Curve) -> Line:
    """Return a thin line without a band, which has no entry in the legend."""
    thin = line(f"seed {run.seed}", color, *curve)
    return {name: value for name, value in thin.items() if name not in ("low", "high")} | {"thin": True}
