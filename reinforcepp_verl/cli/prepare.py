"""The `prepare` command: make the data of a task, and for a toy task its model."""

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
            show_default="the task's own id on the hub",
            help="Where the rows are: a .parquet, .json or .jsonl file, a folder of them, or an id on the hub.",
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
        typer.Option(show_default="count characters", help="Folder of a model or tokenizer, to count tokens with."),
    ] = None,
    against: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(
            show_default="the task's own test split",
            help="A prepared evaluation whose questions must not be trained on. Can be repeated.",
        ),
    ] = None,
    keep_overlap: Annotated[
        bool, typer.Option("--keep-overlap", help="Keep training rows that an evaluation asks too; they are counted.")
    ] = False,
    max_unusable: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(show_default="0.01", help="Largest share of rows that may lack a question or an answer."),
    ] = None,
    seed: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(show_default="1", help="Of arithmetic and word_problems: same seed, same bytes."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Make it again even if the folder holds it already.")] = False,
) -> None:
    """Make the data of a task: parquet files for verl, a manifest with checksums and a picture of what is in them.

    **arithmetic**: two-digit additions, a character tokenizer and a Llama of under one million parameters that was
    trained on demonstrations with many wrong answers, so that there is something to learn. Under a minute; nothing is
    downloaded.

    **word_problems**: one-line problems in the formats of GSM8K and MATH, converted as these are, and a Llama that was
    trained likewise. Under two minutes; nothing is downloaded.

    **gsm8k, math**: a training and a test split. **dapo_math_17k, deepscaler**: questions to train on. **math500,
    aime24, aime25**: questions to evaluate with. **preferences**: pairs of chats for a Bradley-Terry reward model.

    Duplicates, and training questions that an evaluation asks too, are counted and left out. The same input gives the
    same bytes.

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
    """Refuse options that would not be read."""
    if names:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in names)
        raise ValueError(f"{task.value} has no use for {options}; leave it out")


def _prepare_toy(task: Task, out: Path, seed: int, force: bool) -> None:
    # Imported here, as torch and transformers take seconds that `--help` need not wait for.
    if task is Task.arithmetic:
        from reinforcepp_verl.tasks.arithmetic_task import prepare_arithmetic_command

        prepare_arithmetic_command(out, seed, force)
    else:
        from reinforcepp_verl.tasks.word_problems import prepare_word_problems_command

        prepare_word_problems_command(out, seed, force)


def _prepare_source(task: Task, out: Path, force: bool, options: dict[str, Any]) -> None:
    from reinforcepp_verl.data.prepare_source import prepare_command

    prepare_command(task.value, out, force=force, **options)
