"""The `report` command: one HTML page of one or more runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from reinforcepp_verl.common.terminal import echo

if TYPE_CHECKING:
    from reinforcepp_verl.html_report.document import Document


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", show_default=False, help="Run folders. runs/latest is the newest run."),
    ],
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--out",
            "-o",
            show_default="report.html in the run's folder; report.html here for several runs",
            help="File to write.",
        ),
    ] = None,
    metric: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--metric",
            "-m",
            metavar="[TITLE=]NAME",
            show_default=False,
            help="Also draw this metric of metrics.jsonl. Can be repeated.",
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Write the page again as the runs go on, until all have ended.")
    ] = False,
) -> None:
    """Write one HTML page of runs: outcome, curves, answers, accuracy, time and memory, configuration, versions.

    The page is a single file that loads nothing, so it can be sent or kept. Several runs are compared: seeds of one
    trainer.experiment_name are a line with a band, and the configuration begins with what differs.

    A run that is still training can be reported too. A damaged file of a run is named in the page, and the exit code
    is 1.

    One run:  reinforcepp report runs/latest

    Compare:  reinforcepp report runs/rpp_seed1 runs/rpp_seed2 runs/grpo -o compare.html

    During a run:  reinforcepp report runs/latest --follow

    The folder of tables that `reinforcepp compare` fills becomes a Markdown page with a figure for each suite.

    Results:  reinforcepp report results -o docs/results.md
    """
    if len(runs) == 1 and any(runs[0].glob("*.parquet")):
        if follow or metric:
            echo("error: --follow and --metric are for runs, not for a folder of results", err=True)
            raise typer.Exit(2)
        _results(runs[0], out or Path("results.md"))
        return
    # Imported here to keep other commands fast.
    from reinforcepp_verl.html_report import write_page
    from reinforcepp_verl.report.panels import panel_of

    folders = list(dict.fromkeys(run.resolve() for run in runs))  # runs/latest may be one of the others, or change
    target = out or (folders[0] / "report.html" if len(folders) == 1 else Path("report.html"))
    panels = [panel_of(given) for given in metric or ()]
    try:
        if follow:
            echo(f"writing {target} until the runs have ended")
            document = write_page.follow(folders, target, panels)
        else:
            document = write_page.write(folders, target, panels)
            echo(target)
    except (ValueError, OSError) as error:
        echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    _warn(document)


def _results(results: Path, out: Path) -> None:
    from reinforcepp_verl.comparison import page

    try:
        if out.suffix != ".md":
            raise ValueError(f"{out}: the page of results is Markdown; the file must end in .md")
        for written in page.write(results, out):
            echo(written)
    except (ValueError, OSError) as error:
        echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def _warn(document: Document) -> None:
    for problem in document.problems:
        echo(f"warning: {problem}", err=True)
    if document.problems:
        raise typer.Exit(1)
