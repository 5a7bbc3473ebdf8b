"""Plots the curves of one or more runs: the eight panels of the paper's figures, runs overlaid, seeds as a band."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator

from reinforcepp_verl.common import durable
from reinforcepp_verl.common.plot_style import GREY, METADATA, PALETTE, STYLE
from reinforcepp_verl.report.history import History
from reinforcepp_verl.report.metric_series import Curve
from reinforcepp_verl.report.thinning import thinned, thinned_band
from reinforcepp_verl.report.validation_metric import is_validation_metric, validation_key

DASHES = ("-", "--", ":", "-.")


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


def is_drawn(name: str, panels: Sequence[Panel] = PANELS) -> bool:
    """Return True for the metrics that a panel may show."""
    return any(name in panel.metrics or (panel.validation and is_validation_metric(name)) for panel in panels)


@dataclass(frozen=True)
class Group:
    """Runs that share a color and a legend entry: a single run, or the seeds of one experiment."""

    label: str
    members: tuple[History, ...]
    color: str
    dash: str

    @property
    def line_style(self) -> dict[str, Any]:
        return {"color": self.color, "linestyle": self.dash}


def plot_runs(
    histories: Sequence[History], out: Path, *, title: str | None = None, panels: Sequence[Panel] = PANELS
) -> None:
    """Plot `histories` to the file `out` (.png or .svg), creating its folder if needed."""
    suffix = out.suffix.lower()
    if suffix not in METADATA:
        raise ValueError(f"{out}: the output file must end in {' or '.join(METADATA)}")
    figure = build_figure(histories, title, panels)
    buffer = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(buffer, format=suffix[1:], metadata=METADATA[suffix])
    out.parent.mkdir(parents=True, exist_ok=True)
    durable.write(out.resolve(), buffer.getvalue())


def build_figure(histories: Sequence[History], title: str | None = None, panels: Sequence[Panel] = PANELS) -> Figure:
    """Return the figure, four panels in a row, without writing it; needs no display and does not use pyplot.

    Raises:
        ValueError: there are no runs, or none of them has the only metric of a panel
    """
    if not histories:
        raise ValueError("nothing to plot: give at least one run")
    if panels is not PANELS:
        _refuse_unrecorded(histories, panels)
    groups = group_runs(histories)
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    with rc_context(STYLE):
        figure = Figure(figsize=(3.5 * columns, 3.3 * rows), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08))
        axes = figure.subplots(rows, columns, sharex=True, squeeze=False)
        for ax, panel in zip(axes.flat, panels, strict=False):
            _draw_panel(ax, panel, groups)
        for ax in axes.flat[len(panels) :]:
            ax.set_visible(False)
        for ax in axes[-1]:
            ax.set_xlabel("step")
        _add_legend(figure, groups)
        if title:
            figure.suptitle(title, fontsize=13, fontweight="bold")
    return figure


def _refuse_unrecorded(histories: Sequence[History], panels: Sequence[Panel]) -> None:
    """Refuse a metric that no run has: its name is probably misspelled."""
    recorded = {name for history in histories for name in history.series}
    if missing := [name for panel in panels for name in panel.metrics if name not in recorded]:
        raise ValueError(f"no run has recorded {', '.join(missing)}; metrics.jsonl has the names of all metrics")


def group_runs(histories: Sequence[History]) -> list[Group]:
    """Group the seeds of one experiment; a run with an unknown or repeated seed forms its own group."""
    names: dict[str, list[History]] = {}
    for history in histories:
        names.setdefault(history.name, []).append(history)
    parts = [part for name, runs in names.items() for part in _split(name, runs)]
    return [
        Group(label, members, PALETTE[i % len(PALETTE)], DASHES[i // len(PALETTE) % len(DASHES)])
        for i, (label, members) in enumerate(parts)
    ]


def _split(name: str, runs: list[History]) -> list[tuple[str, tuple[History, ...]]]:
    counts = Counter(run.seed for run in runs)
    seeds = tuple(run for run in runs if run.seed is not None and counts[run.seed] == 1)
    if len(seeds) < 2:
        seeds = ()
    banded = [(f"{name} (mean of {len(seeds)} seeds, band: min to max)", seeds)] if seeds else []
    alone = [run for run in runs if run not in seeds]
    return banded + [(name if len(runs) == 1 else f"{name} ({run.path.name})", (run,)) for run in alone]


def _draw_panel(ax: Axes, panel: Panel, groups: list[Group]) -> None:
    shared = _shared_validation_key(groups)
    drawn: dict[str, None] = {}  # ordered set of the metrics shown, listed under the title
    for group in groups:
        keys = [(run, _key(run, panel, shared)) for run in group.members]
        drawn.update(dict.fromkeys(key for _, key in keys if key))
        _draw_group(ax, group, panel, [_curve(run, key, panel) for run, key in keys if key])
    ax.set_title(_title(panel, list(drawn)), loc="left", pad=18)
    names = ", ".join(_shorten(metric, max(12, 48 // len(drawn))) for metric in drawn if metric != panel.title)
    ax.annotate(names, (0, 1), (0, 6), "axes fraction", "offset points", color=GREY, fontsize=7)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    ax.yaxis.set_major_formatter(FuncFormatter(_tick))
    if not drawn:
        ax.text(0.5, 0.5, "not recorded", transform=ax.transAxes, ha="center", va="center", color=GREY, style="italic")
        ax.yaxis.set_visible(False)
        ax.grid(False)
    elif panel.from_zero:
        ax.set_ylim(bottom=0)


def _title(panel: Panel, metrics: list[str]) -> str:
    """Return the panel's title; a task that validates by reward must not be labeled as accuracy."""
    by_reward = panel.validation and metrics and not any("/acc/" in metric for metric in metrics)
    return "Validation reward" if by_reward else panel.title


def _draw_group(ax: Axes, group: Group, panel: Panel, curves: list[Curve]) -> None:
    marker = "o" if panel.validation else None
    if len(group.members) == 1:
        for steps, values in curves:
            lone = np.isfinite(values).sum() == 1  # a line through one point is invisible
            ax.plot(*thinned(steps, values), lw=1.6, marker="o" if lone else marker, ms=4, **group.line_style)
        return
    for steps, values in curves:
        ax.plot(*thinned(steps, values), lw=0.7, alpha=0.4, **group.line_style)
    # The mean ends with the shortest seed: a mean over fewer seeds would jump there.
    shared = reduce(np.intersect1d, [steps for steps, _ in curves]) if len(curves) > 1 else np.array([])
    if shared.size:
        stack = np.stack([values[np.isin(steps, shared)] for steps, values in curves])
        band = thinned_band(shared, stack.min(axis=0), stack.max(axis=0))
        ax.fill_between(*band, color=group.color, alpha=0.18, lw=0)
        ax.plot(*thinned(shared, stack.mean(axis=0)), lw=1.9, marker=marker, ms=4, **group.line_style)


def _key(run: History, panel: Panel, shared: str | None) -> str | None:
    wanted = (shared or validation_key(run.series),) if panel.validation else panel.metrics
    return next((key for key in wanted if key in run.series and np.isfinite(run.series[key][1]).any()), None)


def _shared_validation_key(groups: list[Group]) -> str | None:
    """Return a validation metric that all runs with validation have, so that the panel compares the same metric."""
    names = [set(run.series) for group in groups for run in group.members if validation_key(run.series)]
    return validation_key(set.intersection(*names)) if names else None


def _curve(run: History, key: str, panel: Panel) -> Curve:
    steps, values = run.series[key]
    return (steps, np.cumsum(values)) if panel.cumulative else (steps, values)


def _add_legend(figure: Figure, groups: list[Group]) -> None:
    handles: list[Any] = []  # a tuple of artists is drawn as one entry: the line on its band
    for group in groups:
        line = Line2D([], [], lw=1.9, **group.line_style)
        band = Patch(facecolor=group.color, alpha=0.18, linewidth=0)
        handles.append((band, line) if len(group.members) > 1 else (line,))
    labels = [_shorten(group.label, 100) for group in groups]
    columns = max(1, min(len(labels), 170 // (max(map(len, labels)) + 8)))
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=10,
        handler_map={tuple: HandlerTuple(ndivide=1)},
    )


def _shorten(text: str, limit: int = 48) -> str:
    """Shorten a long name in the middle: its start and end are more informative."""
    half = (limit - 1) // 2
    return text if len(text) <= limit else f"{text[:half]}…{text[-half:]}"


def _tick(value: float, _position: int | None = None) -> str:
    """Format a tick as 0.3, 12k, 1.5M or 2e-7, without an axis offset."""
    if abs(value) >= 1e4:
        return EngFormatter(sep="")(value)
    return f"{value:.6g}".replace("e-0", "e-")
