"""The `prepare` command: write the data of a task, and for a toy task its model."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Optional

import typer


class Task(str, Enum):
    """What can be prepared."""

    arithmetic = "arithmetic"
    word_problems = "word_problems"
    gsm8k = "gsm8k"
    math = "math"
    math500 = "math500"
    dapo_math_17k = "dapo_math_17k"
    deepscaler = "deepscaler"
    aime24 = "aime24"
    aime25 = "aime25"
    preferences = "preferences"


def prepare(
    task: Annotated[Task, typer.Argument(show_default=False, help="What to prepare.")],
    out: Annotated[
        Optional[Path],  # noqa: UP045  (typer reads the annotation at run time)
        typer.Option("--out", "-o", show_default="data/TASK", help="Folder to write."),
    ] = None,
    source: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--source",
            metavar="PATH|ID[@REVISION]",
            show_default="the task's id on the Hugging Face hub",
            help="Source of the rows: a .parquet, .json or .jsonl file, a folder of them, or an id on the hub.",
        ),
    ] = None,
    template: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            show_default="hashes for gsm8k, else boxed",
            help="Prompt: boxed, boxed_system, hashes, answer_line, bare, or a .yaml file with `user` and `system`.",
        ),
    ] = None,
    tokenizer: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(show_default="count characters", help="Folder of a model or tokenizer; counts tokens."),
    ] = None,
    against: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(
            show_default="the task's own test split",
            help="A prepared evaluation set whose questions are removed from training. Can be repeated.",
        ),
    ] = None,
    keep_overlap: Annotated[
        bool, typer.Option("--keep-overlap", help="Keep (and count) training rows that are also in an evaluation set.")
    ] = False,
    max_unusable: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(show_default="0.01", help="Largest allowed share of rows without question or answer."),
    ] = None,
    seed: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(show_default="1", help="For arithmetic and word_problems: same seed, same bytes."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Prepare again even if the data exists already.")] = False,
) -> None:
    """Write the data of a task: parquet files for verl, a manifest with checksums, and a plot of the data.

    **arithmetic**: two-digit additions, a character tokenizer and a Llama model with under one million parameters,
    trained on demonstrations with many wrong answers so that there is something to learn. Under a minute, no downloads.

    **word_problems**: one-line problems in the formats of GSM8K and MATH, converted the same way, and a Llama model
    trained similarly. Under two minutes, no downloads.

    **gsm8k, math**: a training and a test split. **dapo_math_17k, deepscaler**: training questions. **math500, aime24,
    aime25**: evaluation questions. **preferences**: pairs of chats for a Bradley-Terry reward model.

    Duplicates, and training questions that are also in an evaluation set, are counted and removed. The same input gives
    the same bytes.

    Example:  reinforcepp prepare arithmetic

    Example:  reinforcepp prepare gsm8k --tokenizer models/Qwen2.5-0.5B-Instruct

    Without a network:  reinforcepp prepare math500 --source downloads/MATH-500

    Then:  reinforcepp prepare deepscaler --against data/math500
    """
    options = {
        "source": source,
        "template": template,
        "tokenizer": tokenizer,
        "against": against or None,
        "keep_overlap": keep_overlap or None,
        "max_unusable": max_unusable,
    }
    given = {name: value for name, value in options.items() if value is not None}
    out = out or Path("data") / task.value
    try:
        if task in (Task.arithmetic, Task.word_problems):
            _refuse(task, list(given))
            _prepare_toy(task, out, 1 if seed is None else seed, force)
        else:
            _refuse(task, ["seed"] if seed is not None else [])
            _prepare_source(task, out, force, given)
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


def _refuse(task: Task, names: list[str]) -> None:
    """Refuse options that the task does not read."""
    if names:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in names)
        raise ValueError(f"{task.value} does not use {options}; remove it")


def _prepare_toy(task: Task, out: Path, seed: int, force: bool) -> None:
    # Imported here to keep --help fast: torch and transformers take seconds to import.
    if task is Task.arithmetic:
        from reinforcepp_verl.tasks.arithmetic_task import prepare_arithmetic_command

        prepare_arithmetic_command(out, seed, force)
    else:
        from reinforcepp_verl.tasks.word_problems import prepare_word_problems_command

        prepare_word_problems_command(out, seed, force)


def _prepare_source(task: Task, out: Path, force: bool, options: dict[str, Any]) -> None:
    from reinforcepp_verl.data.prepare_source import prepare_command

    prepare_command(task.value, out, force=force, **options)
