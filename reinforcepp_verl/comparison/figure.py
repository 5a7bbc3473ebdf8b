"""The figure of a suite: means over seeds with the bootstrap's band."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reinforcepp_verl.common.plot_style import METADATA, PALETTE, STYLE
from reinforcepp_verl.comparison import statistics
from reinforcepp_verl.comparison.outcome import curve
from reinforcepp_verl.comparison.suite import Suite

# A step has few answers.
SMOOTHING = 5
SMOOTH = {"reward": "reward", "kl": "KL to the initial model", "length": "answer length"}


def draw(suite: Suite, rows: pd.DataFrame) -> bytes:
    """Return the figure as PNG."""
    measure = suite.file.measure
    methods = [method for method in suite.file.methods if (rows.method == method).any()]
    with rc_context(STYLE):
        figure = Figure(figsize=(12, 6.8), layout="constrained")
        axes = figure.subplots(2, 3).flatten()
        for number, method in enumerate(methods):
            look = {"color": PALETTE[number % len(PALETTE)], "linestyle": ("-", "--")[number // len(PALETTE) % 2]}
            _draw_method(axes, rows, method, measure, {**look, "label": method})
        for ax, title in zip(axes, (measure, *SMOOTH.values()), strict=False):
            ax.set(title=title, xlabel="step")
        axes[-2].set(title=f"{measure} against KL", xlabel="KL to the initial model")
        axes[-1].set(title=f"{measure} against time", xlabel="seconds of training")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata=METADATA[".png"])
    return buffer.getvalue()


def _draw_method(axes: np.ndarray, rows: pd.DataFrame, method: str, measure: str, look: dict[str, Any]) -> None:
    measured = curve(rows, method, measure)
    smooth = {name: curve(rows, method, name).rolling(SMOOTHING, min_periods=1).mean() for name in SMOOTH}
    for ax, values in zip(axes, (measured, *smooth.values()), strict=False):
        _draw_band(ax, values, look)
    for ax, spent in ((axes[-2], smooth["kl"]), (axes[-1], curve(rows, method, "step_s").cumsum())):
        ax.plot(*_means(spent, measured), marker="o", markersize=3, **look)


def _draw_band(ax: Axes, values: pd.DataFrame, look: dict[str, Any]) -> None:
    if values.empty:
        return
    bands = [statistics.interval(seeds) for seeds in values.to_numpy()]
    ax.plot(values.index, [band.mean for band in bands], **look)
    lows, highs = np.array([[band.low, band.high] for band in bands]).T
    ax.fill_between(values.index, lows, highs, color=look["color"], alpha=0.12, lw=0)


def _means(x: pd.DataFrame, y: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the means over seeds at the steps of `y` from the beginning, where nothing of `x` is spent."""
    steps = y.index[y.index.isin(x.index) | (y.index == 0)] if len(x) else y.index[:0]
    return x.mean(axis=1).reindex(steps, fill_value=0.0).to_numpy(), y.loc[steps].mean(axis=1).to_numpy()
