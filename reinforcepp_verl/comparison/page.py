"""The page of all tables of results: Markdown with a figure for each suite."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reinforcepp_verl.common import durable
from reinforcepp_verl.common.plot_style import METADATA, PALETTE, STYLE
from reinforcepp_verl.comparison import outcome, statistics, table
from reinforcepp_verl.comparison import suite as suites
from reinforcepp_verl.comparison.cells import ACCURACY
from reinforcepp_verl.comparison.outcome import THRESHOLD, Outcome, Versus, curve
from reinforcepp_verl.comparison.suite import Suite

PANELS = {"accuracy": ACCURACY, "reward": "reward", "KL to the reference per token": "kl", "answer length": "length"}
HEADER = (
    "method",
    "seeds",
    "final accuracy",
    "accuracy over training",
    "difference",
    "p",
    "P(better)",
    "KL",
    "length",
    "s/step",
    f"s to {THRESHOLD}",
    "GB",
)


def suites_in(results: Path) -> list[Suite]:
    """Return the shipped suites that have a table, and that a folder of results can show."""
    return [suites.load(name) for name in suites.names() if table.path_of(results, name).is_file()]


def write(results: Path, out: Path) -> list[Path]:
    """Write the page and its figures, `PAGE_SUITE.png`; return all files.

    Raises:
        ValueError: there is no table, or one is damaged
    """
    shown = suites_in(results)
    if not shown:
        raise ValueError(f"{results} has no table of a shipped suite; `reinforcepp compare SUITE` makes one")
    out.parent.mkdir(parents=True, exist_ok=True)
    figures = []
    for suite in shown:
        figures.append(out.with_name(f"{out.stem}_{suite.name}.png"))
        durable.write(figures[-1].resolve(), draw(suite, table.read(results, suite.name)))
    durable.write(out.resolve(), markdown(results, out.stem).encode())
    return [out, *figures]


def markdown(results: Path, stem: str) -> str:
    """Return the page; `stem` begins the names of the figures."""
    parts = [INTRODUCTION]
    for suite in suites_in(results):
        parts.append(_section(suite, table.read(results, suite.name), stem))
    return "\n".join(parts)


def outcomes(suite: Suite, rows: pd.DataFrame) -> list[Outcome]:
    """Return the results of the suite's methods that have any, best first."""
    methods = [method for method in suite.file.methods if (rows.method == method).any()]
    found = [outcome.of_method(rows, method, suite.file.reference) for method in methods]
    return sorted(found, key=lambda one: -one.over_training.mean)


def _section(suite: Suite, rows: pd.DataFrame, stem: str) -> str:
    found = outcomes(suite, rows)
    lines = [f"## {suite.name}", "", suite.file.question, "", f"![{suite.name}]({stem}_{suite.name}.png)", ""]
    lines += [_row(HEADER), _row(["---"] * len(HEADER)), *map(_row, map(_cells, found)), ""]
    if missing := len(suite.file.methods) * suite.file.seeds - sum(len(one.seeds) for one in found):
        lines += [
            f"**Not finished**: {missing} of {len(suite.file.methods) * suite.file.seeds} trainings are missing.",
            "",
        ]
    finals = rows[rows.metric == ACCURACY].groupby(["method", "seed"]).value.last()
    lines += [f"Interquartile mean of the final accuracy of all {len(finals)} runs: "
              f"{statistics.interquartile_mean(finals.to_numpy()):.3f}.", ""]  # fmt: skip
    if suite.file.paper:
        lines += ["| paper says | we see |", "| --- | --- |", _row([suite.file.paper, suite.file.seen or "-"]), ""]
    lines += [
        f"`reinforcepp compare {suite.name}`: recipe `{suite.file.recipe}`, {suite.file.steps} steps, reference "
        f"`{suite.file.reference}`. {'; '.join(sorted(rows.hardware.unique()))}. "
        f"{'; '.join(sorted(rows.versions.unique()))}. Made {' and '.join(sorted(rows.date.unique()))}.",
        "",
    ]
    return "\n".join(lines)


def _cells(one: Outcome) -> list[str]:
    return [
        f"`{one.method}`",
        str(len(one.seeds)),
        str(one.final),
        str(one.over_training),
        *_versus(one.versus),
        "-" if one.kl is None else f"{one.kl:.4f}",
        f"{one.length:.2f}",
        f"{one.step_s:.2f}",
        "-" if one.seconds_to_threshold is None else f"{one.seconds_to_threshold:.0f}",
        f"{one.memory_gb:.1f}",
    ]


def _versus(one: Versus | None) -> list[str]:
    if one is None:
        return ["-"] * 3
    difference = one.difference
    shown = f"{difference.mean:+.3f}"
    if difference.low < difference.high:
        shown += f" [{difference.low:+.3f}, {difference.high:+.3f}]"
    return [shown, f"{one.p_value:.2f}", f"{one.improvement:.2f}"]


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def draw(suite: Suite, rows: pd.DataFrame) -> bytes:
    """Return the figure of a suite as PNG: means over seeds with the bootstrap's band."""
    methods = [method for method in suite.file.methods if (rows.method == method).any()]
    with rc_context(STYLE):
        figure = Figure(figsize=(12, 3.9), layout="constrained")
        axes = figure.subplots(1, len(PANELS))
        for ax, (title, metric) in zip(axes, PANELS.items(), strict=True):
            for number, method in enumerate(methods):
                _line(ax, curve(rows, method, metric), number, method)
            ax.set(title=title, xlabel="step")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata=METADATA[".png"])
    return buffer.getvalue()


def _line(ax: Axes, values: pd.DataFrame, number: int, label: str) -> None:
    if values.empty:
        return
    color, dashes = PALETTE[number % len(PALETTE)], ("-", "--")[number // len(PALETTE) % 2]
    bands = [statistics.interval(seeds) for seeds in values.to_numpy()]
    ax.plot(values.index, [band.mean for band in bands], color=color, linestyle=dashes, label=label)
    lows, highs = np.array([[band.low, band.high] for band in bands]).T
    ax.fill_between(values.index, lows, highs, color=color, alpha=0.12, lw=0)


INTRODUCTION = """# Results

Written by `reinforcepp report results -o docs/results.md` from the tables in `results/`, which `reinforcepp compare
SUITE` fills. [compare.md](compare.md) explains both, and how to add a method or a suite.

Brackets are 95% intervals of the bootstrap over seeds, which are too narrow with few of them. "Accuracy over training"
is the mean of all validations after the first, so that it counts how fast a method learns. "Difference" is that of a
method to the suite's reference on the same seeds, with the p-value of the exact paired permutation test: with five
seeds it is 0.0625 at the least, with one it is 1; it is not corrected for the number of methods. "P(better)" is the
probability that a run of the method is better than one of the reference, by accuracy over training. KL and length are
means of the last ten steps. Times are medians, of trainings that ran beside each other; GB is the memory of all
processes of a run.
"""
