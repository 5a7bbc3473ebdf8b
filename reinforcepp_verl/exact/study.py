"""The exact study: bias and noise of every estimator by group size and batch size, and its figure."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from reinforcepp_verl.common import durable
from reinforcepp_verl.common.plot_style import METADATA, PALETTE, STYLE
from reinforcepp_verl.exact import gradients
from reinforcepp_verl.exact.gradients import ESTIMATORS, Setting

PROBABILITIES = (0.05, 0.3, 0.6, 0.95)
"""A hard prompt, two of middle difficulty, an easy one."""
GROUP_SIZES = (2, 4, 8, 16, 32, 64)
BATCH_SIZES = tuple(2**power for power in range(1, 13))
TABLE_SIZE = (16, 1024)
"""Group size and batch size of the table."""
SMALLEST_ANGLE = 1e-4
# Unbiased for every size: their angle is 0 by definition, and would hide the others.
UNBIASED = ("reinforce, no baseline", "reinforce, moving average", "rloo", "group mean (Dr. GRPO)")


@dataclass(frozen=True)
class Result:
    """One estimator at one size."""

    estimator: str
    n: int
    batch: int
    angle: float
    """Degrees between the expected and the true gradient."""
    noise: float
    """Standard deviation over length of the gradient, times the root of the batch size."""


def result(estimator: str, n: int, batch: int) -> Result | None:
    """Return bias and noise; None if the batch has less than one group of each prompt."""
    groups = batch // (n * len(PROBABILITIES))
    if groups < 1:
        return None
    setting = Setting(PROBABILITIES, n, groups)
    moments = ESTIMATORS[estimator](setting)
    return Result(estimator, n, batch, moments.angle(gradients.true_gradient(setting)), moments.noise(setting))


def results(estimator: str, sizes: Sequence[tuple[int, int]]) -> list[Result]:
    """Return those of the sizes (group, batch) that are possible."""
    return [found for size in sizes if (found := result(estimator, *size))]


def table() -> Table:
    """Return every estimator's bias and noise at one size."""
    n, batch = TABLE_SIZE
    shown = Table("estimator", "bias in degrees", "noise", title=f"{batch} answers, {n} to each prompt")
    for estimator in ESTIMATORS:
        if found := result(estimator, n, batch):
            shown.add_row(estimator, f"{found.angle:.2f}", f"{found.noise:.2f}")
    return shown


def shrinkage(p: float, size: int) -> float:
    """Return the expected normalized gradient of one prompt relative to its limit for large populations (Theorem 1)."""
    setting = Setting((p,), size)
    limit = gradients.true_gradient(setting) / np.sqrt(p * (1 - p))
    return float((gradients.reinforcepp(setting).mean / limit)[0])


def draw(out: Path) -> None:
    """Write the figure."""
    with rc_context(STYLE):
        figure = Figure(figsize=(11, 7.2), layout="constrained")
        (theorem, by_batch), (by_group, noise) = figure.subplots(2, 2)
        _theorem(theorem)
        n, batch = TABLE_SIZE
        biased = [estimator for estimator in ESTIMATORS if estimator not in UNBIASED]
        _lines(by_batch, biased, [(n, size) for size in BATCH_SIZES], "batch", "angle")
        by_batch.set(title=f"Bias by batch size ({n} answers to each prompt)", xlabel="answers in the batch")
        _lines(by_group, biased, [(size, batch) for size in GROUP_SIZES], "n", "angle")
        by_group.set(title=f"Bias by group size ({batch} answers)", xlabel="answers to each prompt")
        for ax in (by_batch, by_group):
            ax.set_ylabel("degrees from the true gradient")
            ax.set_yscale("log")
            ax.set_ylim(SMALLEST_ANGLE, 30)
        _lines(noise, list(ESTIMATORS), [(size, batch) for size in GROUP_SIZES], "n", "noise")
        noise.set(title=f"Noise by group size ({batch} answers)", xlabel="answers to each prompt")
        noise.set_ylabel("standard deviation over length, per answer")
        noise.set_ylim(bottom=0)
        handles, labels = noise.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata=METADATA[".png"])
    out.parent.mkdir(parents=True, exist_ok=True)
    durable.write(out.resolve(), buffer.getvalue())


def _theorem(ax: Axes) -> None:
    for color, p in zip(PALETTE, (0.5, 0.2, 0.05), strict=False):
        ax.plot(BATCH_SIZES, [shrinkage(p, size) for size in BATCH_SIZES], color=color, label=f"{p:.0%} right")
    ax.axvspan(GROUP_SIZES[0], GROUP_SIZES[-1], color="#000000", alpha=0.06, lw=0)
    ax.text(GROUP_SIZES[-1] * 1.15, 0.05, "left: sizes of a group", color="#555555")
    ax.axhline(1, color="#999999", lw=0.8)
    ax.set(title="Advantage divided by the deviation of N answers", xlabel="N", ylabel="gradient relative to its limit")
    ax.set_xscale("log", base=2)
    ax.set_ylim(0, 1.3)
    ax.legend(frameon=False)


def _lines(ax: Axes, estimators: Sequence[str], sizes: Sequence[tuple[int, int]], x: str, y: str) -> None:
    names = list(ESTIMATORS)
    for estimator in estimators:
        found = results(estimator, sizes)
        number = names.index(estimator)
        ax.plot(
            [getattr(one, x) for one in found],
            [getattr(one, y) for one in found],
            color=PALETTE[number % len(PALETTE)],
            linestyle=("-", "--")[number // len(PALETTE)],
            marker="o",
            markersize=3,
            label=estimator,
        )
    ax.set_xscale("log", base=2)
