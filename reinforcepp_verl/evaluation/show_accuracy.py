"""Shows reports and comparisons as tables and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from reinforcepp_verl.common.terminal import widen_pipe
from reinforcepp_verl.evaluation.accuracy_report import (
    MEAN,
    Comparison,
    Report,
    Resampling,
    SourceComparison,
    SourceReport,
)
from reinforcepp_verl.evaluation.estimates import CONFIDENCE, BootstrapEstimate, Difference

SIGNIFICANT = 1 - CONFIDENCE
FEW = 10
"""Number of questions below which bootstrap intervals are known to be too narrow."""


def as_json(reports: Sequence[Report], comparisons: Sequence[Comparison], resampling: Resampling) -> dict[str, Any]:
    """Return the contents of the tables, unrounded, as fractions of 1."""
    return {
        "settings": {**asdict(resampling), "confidence": CONFIDENCE},
        "reports": [
            {
                "source": report.label,
                "file": str(report.generations.path),
                "step": report.generations.step,
                "data_sources": {source.name: _source(source) for source in report.data_sources},
            }
            for report in reports
        ],
        "comparisons": [
            {
                "first": comparison.first,
                "second": comparison.second,
                "data_sources": {source.name: _source_comparison(source) for source in comparison.data_sources},
            }
            for comparison in comparisons
        ],
    }


def print_report(report: Report, console: Console) -> None:
    """Print a table with a row for every data source and metric."""
    step = "" if report.generations.step is None else f", step {report.generations.step}"
    table = _table("data source", "questions", "samples", "metric", "%", "interval")
    for source in report.data_sources:
        fewest, most = source.samples
        start = [source.name, str(source.questions), str(most) if fewest == most else f"{fewest}–{most}"]
        for name, estimate in source.metrics.items():
            # mean@k does not depend on k; by convention it shows the number of samples.
            shown = f"{MEAN}@{most}" if name == MEAN and fewest == most else name
            table.add_row(*map(Text, start), shown, *_numbers(estimate))
            start = [""] * len(start)
    _print(console, f"{report.label}{step}", table)
    for source in report.data_sources:
        for note in source.notes:
            _note(console, f"{source.name}: {note}")


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print the differences of two reports."""
    table = _table("data source", "questions", "metric", "%", "interval", "p")
    for source in comparison.data_sources:
        start = [source.name, str(source.questions)]
        for name, difference in source.metrics.items():
            style = "bold" if difference.p_value < SIGNIFICANT else ""
            numbers = (*_numbers(difference), f"{difference.p_value:.4f}")
            table.add_row(*map(Text, start), name, *(Text(number, style) for number in numbers))
            start = [""] * len(start)
    _print(console, f"{comparison.second} minus {comparison.first}", table)
    for source in comparison.data_sources:
        if source.left_out:
            _note(console, f"{source.name}: left out because only one of the two has them: {source.left_out} questions")
        if 0 < source.questions < FEW:
            _note(console, f"{source.name}: {source.questions} questions are too few for reliable intervals and p")


def print_legend(compared: bool, resampling: Resampling, console: Console) -> None:
    """Explain the numbers."""
    text = (
        f"Percent, with {CONFIDENCE:.0%} intervals from {resampling.resamples} bootstraps over questions, "
        f"seed {resampling.seed}."
    )
    if compared:
        text += f" Bold: p < {SIGNIFICANT:.2f} by the paired bootstrap, not corrected for the number of comparisons."
    console.print(text, style="dim", highlight=False, soft_wrap=True)


def _source(source: SourceReport) -> dict[str, Any]:
    fewest, most = source.samples
    return {
        "questions": source.questions,
        "samples_per_question": {"min": fewest, "max": most},
        "metrics": {name: asdict(estimate) for name, estimate in source.metrics.items()},
        "notes": list(source.notes),
    }


def _source_comparison(source: SourceComparison) -> dict[str, Any]:
    return {
        "questions": source.questions,
        "left_out": source.left_out,
        "metrics": {name: asdict(difference) for name, difference in source.metrics.items()},
    }


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        justify: JustifyMethod = "left" if heading in ("data source", "metric") else "right"
        table.add_column(heading, justify=justify, no_wrap=heading != "data source", overflow="fold")
    return table


def _print(console: Console, title: str, table: Table) -> None:
    widen_pipe(console, table)
    # Not the table's own title, which is wrapped to the table's width.
    console.print(Text(title, "bold"), soft_wrap=True)
    console.print(table)


def _note(console: Console, text: str) -> None:
    console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _numbers(estimate: BootstrapEstimate) -> tuple[str, str]:
    sign = "+" if isinstance(estimate, Difference) else ""
    value, low, high = (f"{100 * number:{sign}.1f}" for number in (estimate.value, estimate.low, estimate.high))
    return value, f"{low} to {high}"
