"""The `plot` command: draw the curves of one or more runs as a PNG or SVG file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn, Optional

import typer

from reinforcepp_verl.common.terminal import echo


def plot(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            show_default=False,
            help="Run folders (each with a metrics.jsonl). runs/latest is the newest run.",
        ),
    ],
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--out",
            "-o",
            show_default="curves.png in the run's folder; comparison.png here for several runs",
            help="File to write: .png or .svg.",
        ),
    ] = None,
    title: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--title", help="Text above the panels."),
    ] = None,
    metric: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--metric",
            "-m",
            metavar="[TITLE=]NAME",
            show_default=False,
            help="Draw this metric of metrics.jsonl instead of the usual ones. Can be repeated: one panel each.",
        ),
    ] = None,
) -> None:
    """Draw the curves of runs: reward, accuracy, KL, loss, length, entropy, tokens.

    Several runs are overlaid in different colors. Runs with the same trainer.experiment_name and different seeds become
    one line: their mean, with a band from the lowest to the highest seed.

    A run that is still training can be plotted too. A panel whose metric is missing shows "not recorded".

    One run:  reinforcepp plot runs/latest

    Compare:  reinforcepp plot runs/rpp_seed1 runs/rpp_seed2 runs/grpo -o compare.svg

    Other metrics:  reinforcepp plot runs/latest -m critic/score/max -m 'Gradient norm=actor/grad_norm'
    """
    # Imported here to keep other commands fast: matplotlib is slow to import.
    from reinforcepp_verl.report.curves import plot_runs
    from reinforcepp_verl.report.history import load_history
    from reinforcepp_verl.report.panels import PANELS, is_drawn, panel_of

    folders = {run.resolve(): run for run in runs}  # no duplicates: runs/latest may be one of the others
    target = out or (runs[0].resolve() / "curves.png" if len(folders) == 1 else Path("comparison.png"))
    panels = [panel_of(given) for given in metric] if metric else PANELS
    try:
        histories = [load_history(run, lambda name: is_drawn(name, panels)) for run in folders.values()]
        if not metric and not any(history.series for history in histories):
            _fail(f"{runs[0]}: no step recorded yet; wait for the first step")
        plot_runs(histories, target, title=title, panels=panels)
    except (ValueError, OSError) as error:
        _fail(str(error))
    echo(target)


def _fail(message: str) -> NoReturn:
    echo(f"error: {message}", err=True)
    raise typer.Exit(2)
