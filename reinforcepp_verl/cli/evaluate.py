"""The `eval` command: pass@k, majority@k and mean@k of generated answers, and comparisons of runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from reinforcepp_verl.evaluation.report import Report, Resampling


def evaluate(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE...",
            show_default=False,
            help="A JSONL file of judged answers, a folder of verl's dumps (STEP.jsonl), or a run that made them.",
        ),
    ],
    k: Annotated[
        Optional[str],  # noqa: UP045  (typer reads the annotation at run time)
        typer.Option("--k", show_default="2, 4, 8, ... up to the samples there are", help="For example 1,4,8."),
    ] = None,
    step: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--step", show_default="the newest", help="Training step whose dump counts."),
    ] = None,
    json_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--json", show_default=False, help="Also write everything to this file, unrounded."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the bootstraps.")] = 1,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples.")] = 10_000,
) -> None:
    """Say how accurate generated answers are, per data source: mean, pass@k and majority@k with 95% intervals.

    pass@k is the unbiased estimate from all samples of a question, maj@k the exact chance that the most frequent
    answer of k samples is right (ties shared). Intervals come from a bootstrap over questions.

    With several sources, each is compared with the first one on the questions that both hold, by paired bootstrap.

    A line of a file has question (or input), acc (or correct, or score) and, for maj@k, pred (or answer); data_source
    and ground_truth (or gts) are optional. verl writes such files with trainer.validation_data_dir=DIR.

    A run:    reinforcepp eval runs/latest

    Compare:  reinforcepp eval base.jsonl trained.jsonl --k 1,8 --json results.json
    """
    # Imported here, so that other commands need not wait for it.
    from rich.console import Console

    from reinforcepp_verl.evaluation import show
    from reinforcepp_verl.evaluation.report import Resampling, compare

    try:
        ks = None if k is None else _parse_ks(k)
        if resamples < 1 or seed < 0:
            raise ValueError(f"--resamples {resamples} --seed {seed}: at least 1 resample, and a seed from 0 on")
        resampling = Resampling(resamples, seed)
        reports = _reports(sources, ks, step, resampling)
        comparisons = [compare(reports[0], other, resampling) for other in reports[1:]]
        if json_file is not None:
            document = show.as_json(reports, comparisons, resampling)
            json_file.parent.mkdir(parents=True, exist_ok=True)
            json_file.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except (ValueError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    console = Console()
    for report in reports:
        show.print_report(report, console)
    for comparison in comparisons:
        show.print_comparison(comparison, console)
    show.print_legend(bool(comparisons), resampling, console)


def _parse_ks(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    wrong = [part for part in parts if not part.isdecimal() or int(part) < 1]
    if wrong:
        raise ValueError(f"--k {text}: {wrong[0]!r} is not a whole number from 1 on; write for example --k 1,4,8")
    return [int(part) for part in parts]


def _reports(sources: list[Path], ks: list[int] | None, step: int | None, resampling: Resampling) -> list[Report]:
    from reinforcepp_verl.evaluation.generations import read_generations
    from reinforcepp_verl.evaluation.locate import locate
    from reinforcepp_verl.evaluation.report import evaluate

    files: dict[Path, Path] = {}
    for source in sources:
        file = locate(source, step)
        known = files.setdefault(file.resolve(), source)
        if known is not source:
            raise ValueError(f"{known} and {source} mean the same file: {file}")
    return [evaluate(str(source), read_generations(file), ks, resampling) for file, source in files.items()]
