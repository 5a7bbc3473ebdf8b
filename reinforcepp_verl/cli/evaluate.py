"""The `eval` command: pass@k, majority@k and mean@k of generated answers, and comparisons of runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from reinforcepp_verl.cli.json_file import check_json, write_json
from reinforcepp_verl.common.terminal import echo

if TYPE_CHECKING:
    from rich.console import Console


def evaluate(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE...",
            show_default=False,
            help="A JSONL file of scored answers, a folder of verl's dumps (STEP.jsonl), a run, or a checkpoint.",
        ),
    ],
    k: Annotated[
        Optional[str],  # noqa: UP045  (typer reads the annotation at run time)
        typer.Option("--k", show_default="2, 4, 8, ... up to the number of samples", help="For example 1,4,8."),
    ] = None,
    step: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--step", show_default="the newest", help="Training step whose dump is evaluated."),
    ] = None,
    settings: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--set", metavar="KEY=VALUE", show_default=False, help="For checkpoints: override a setting of the run."
        ),
    ] = None,
    json_file: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--json", show_default=False, help="Also write all results to this file, unrounded."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the bootstraps.")] = 1,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples.")] = 10_000,
) -> None:
    """Report the accuracy of generated answers per data source: mean, pass@k and majority@k with 95% intervals.

    pass@k is the unbiased estimate from all samples of a question, maj@k the exact probability that the most frequent
    answer of k samples is correct (equal values are one answer, ties shared). Intervals come from a bootstrap over
    questions.

    With several sources, each is compared with the first one on their shared questions, by paired bootstrap.

    A line of a file has question (or input), acc (or correct, or score) and, for maj@k, pred (or answer); data_source
    and ground_truth (or gts) are optional. verl writes such files with trainer.validation_data_dir=DIR.

    For a checkpoint (RUN/checkpoints/global_step_N), verl's validation generates new answers, using the run's
    config.yaml with the changes of --set. They are kept in RUN/evaluations. Run it from the folder where you trained.

    A run:       reinforcepp eval runs/latest

    Checkpoint:  reinforcepp eval runs/latest/checkpoints/global_step_100

    Other data:  the same with --set data.val_files=data/aime24/test.parquet --set KEY=VALUE, where KEY is for example
    actor_rollout_ref.rollout.val_kwargs.n (answers per question) or actor_rollout_ref.rollout.val_kwargs.temperature

    Compare:     reinforcepp eval base.jsonl trained.jsonl --k 1,8 --json results.json
    """
    # Imported here to keep other commands fast.
    from reinforcepp_verl.common.terminal import PipeSafeConsole
    from reinforcepp_verl.evaluation import show_accuracy
    from reinforcepp_verl.evaluation.accuracy_report import Resampling, compare, evaluate
    from reinforcepp_verl.evaluation.generations import read_generations

    console = PipeSafeConsole()
    try:
        ks = None if k is None else _parse_ks(k)
        if resamples < 1 or seed < 0:
            raise ValueError(f"--resamples {resamples} --seed {seed}: at least 1 resample, and a seed of at least 0")
        if json_file is not None:
            check_json(json_file)
        resampling = Resampling(resamples, seed)
        files = _files(sources, step, settings or [], console)
        reports = [evaluate(str(source), read_generations(file), ks, resampling) for source, file in files.items()]
        comparisons = [compare(reports[0], other, resampling) for other in reports[1:]]
    except (ValueError, OSError) as error:
        raise _refused(error) from error
    for report in reports:
        show_accuracy.print_report(report, console)
    for comparison in comparisons:
        show_accuracy.print_comparison(comparison, console)
    show_accuracy.print_legend(bool(comparisons), resampling, console)
    if json_file is not None:
        try:
            write_json(json_file, show_accuracy.as_json(reports, comparisons, resampling))
        except ValueError as error:
            raise _refused(error) from error


def _refused(error: Exception) -> typer.Exit:
    for line in filter(str.strip, str(error).splitlines()):
        echo(f"error: {line}", err=True)
    return typer.Exit(2)


def _parse_ks(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    wrong = [part for part in parts if not part.isdecimal() or int(part) < 1]
    if wrong:
        raise ValueError(f"--k {text}: {wrong[0]!r} is not an integer >= 1; write for example --k 1,4,8")
    return [int(part) for part in parts]


def _files(sources: list[Path], step: int | None, settings: list[str], console: Console) -> dict[Path, Path]:
    """Return the file of each source; generate the answers of checkpoints only after all sources were checked."""
    from reinforcepp_verl.checkpoints.fsdp_checkpoint import is_checkpoint
    from reinforcepp_verl.evaluation.locate import locate

    for source in sources:
        if "=" in source.name and not source.exists():
            raise ValueError(
                f"{source}: no such file; to change a setting of a checkpoint's evaluation, write --set {source}"
            )
    checkpoints = [source for source in sources if is_checkpoint(source)]
    if settings and not checkpoints:
        raise ValueError(f"--set {settings[0]}: applies to checkpoints only, and no source is a checkpoint; remove it")
    if checkpoints and step is not None:
        raise ValueError(
            f"{checkpoints[0]}: --step chooses from a folder of dumps, and this is a checkpoint; remove it"
        )
    known: dict[Path, Path] = {}
    for source in sources:
        file = source if source in checkpoints else locate(source, step)
        if (other := known.setdefault(file.resolve(), source)) is not source:
            raise ValueError(f"{other} and {source} are the same file: {file}; remove one")
    generated = _generate(checkpoints, settings, console) if checkpoints else {}
    return {source: generated[source] if source in generated else file for file, source in known.items()}


def _generate(checkpoints: list[Path], settings: list[str], console: Console) -> dict[Path, Path]:
    from reinforcepp_verl.checkpoints.fsdp_checkpoint import find_checkpoint
    from reinforcepp_verl.evaluation.generate import prepare
    from reinforcepp_verl.evaluation.locate import locate

    ready = {source: prepare(find_checkpoint(source), settings) for source in checkpoints}
    files = {}
    for source, generation in ready.items():
        exit_code, folder = generation.start(console)
        if exit_code != 0:
            raise typer.Exit(exit_code)
        files[source] = locate(folder)
    return files
