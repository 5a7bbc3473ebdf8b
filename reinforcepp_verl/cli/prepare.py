"""The `prepare` command: make the data of a task, and for a toy task its model."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer


class Task(str, Enum):
    """What can be prepared."""

    arithmetic = "arithmetic"


def prepare(
    task: Annotated[Task, typer.Argument(show_default=False, help="What to prepare.")],
    out: Annotated[
        Optional[Path],  # noqa: UP045  (typer reads the annotation at run time)
        typer.Option("--out", "-o", show_default="data/TASK", help="Folder to write."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 1,
    force: Annotated[bool, typer.Option("--force", help="Make it again even if the folder holds it already.")] = False,
) -> None:
    """Make the data of a task; nothing is downloaded.

    arithmetic: two-digit additions, a character tokenizer and a Llama of under one million parameters that was
    trained on demonstrations with many wrong answers, so that there is something to learn. Under a minute.

    Example:  reinforcepp prepare arithmetic
    """
    # Imported here, as torch and transformers take seconds that `--help` need not wait for.
    from reinforcepp_verl.data.arithmetic import prepare_arithmetic_command

    try:
        prepare_arithmetic_command(out or Path("data") / task.value, seed, force)
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
