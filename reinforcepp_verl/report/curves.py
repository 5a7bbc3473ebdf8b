"""Plots the curves of one or more runs: the eight panels of the paper's figures, runs overlaid, seeds as a band."""

from __future__ import annotations

import io
from collections.abc import Sequence
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
from reinforcepp_verl.report.groups import Group, group_runs, stacked
from reinforcepp_verl.report.history import History
from reinforcepp_verl.report.metric_series import Curve
from reinforcepp_verl.report.panels import (
    PANELS,
    Panel,
    refuse_unrecorded,
    shared_validation_key,
    shown_curve,
    shown_metric,
    shown_title,
)
from reinforcepp_verl.report.thinning import thinned, thinned_band

DASHES = ("-", "--", ":", "-.")


def line_style(index: int) -> dict[str, Any]:
    """Return the color and dashes of a group by its number."""
    return {"color": PALETTE[index % len(PALETTE)], "linestyle": DASHES[index // len(PALETTE) % len(DASHES)]}


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
        refuse_unrecorded(panels, histories)
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


def _draw_panel(ax: Axes, panel: Panel, groups: Sequence[Group]) -> None:
    shared = shared_validation_key(run for group in groups for run in group.members)
    drawn: dict[str, None] = {}  # ordered set of the metrics shown, listed under the title
    for index, group in enumerate(groups):
        metrics = [(run, shown_metric(run, panel, shared)) for run in group.members]
        drawn.update(dict.fromkeys(metric for _, metric in metrics if metric))
        curves = [shown_curve(run, metric, panel) for run, metric in metrics if metric]
        _draw_group(ax, group, line_style(index), curves, marker="o" if panel.validation else None)
    ax.set_title(shown_title(panel, list(drawn)), loc="left", pad=18)
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


def _draw_group(ax: Axes, group: Group, style: dict[str, Any], curves: Sequence[Curve], *, marker: str | None) -> None:
    if len(group.members) == 1:
        for steps, values in curves:
            lone = np.isfinite(values).sum() == 1  # a line through one point is invisible
            ax.plot(*thinned(steps, values), lw=1.6, marker="o" if lone else marker, ms=4, **style)
        return
    for steps, values in curves:
        ax.plot(*thinned(steps, values), lw=0.7, alpha=0.4, **style)
    if (of_all := stacked(curves)) is not None:
        shared, stack = of_all
        band = thinned_band(shared, stack.min(axis=0), stack.max(axis=0))
        ax.fill_between(*band, color=style["color"], alpha=0.18, lw=0)
        ax.plot(*thinned(shared, stack.mean(axis=0)), lw=1.9, marker=marker, ms=4, **style)


def _add_legend(figure: Figure, groups: Sequence[Group]) -> None:
    handles: list[Any] = []  # a tuple of artists is drawn as one entry: the line on its band
    for index, group in enumerate(groups):
        style = line_style(index)
        line = Line2D([], [], lw=1.9, **style)
        band = Patch(facecolor=style["color"], alpha=0.18, linewidth=0)
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
