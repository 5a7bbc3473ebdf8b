"""The `bias` command: exact bias and noise of the estimators."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from reinforcepp_verl.common.terminal import SafeConsole, echo


def bias(
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", "-o", show_default=False, help="Also draw the figure of docs/bias.md to this .png file."),
    ] = None,
) -> None:
    """Compute how far each estimator's expected gradient is from the true one, and how noisy it is.

    Nothing is sampled: for a softmax policy over the answers to four prompts, expectation and variance over all batches
    are computed, for groups of 2 to 64 answers and batches of up to 4096. docs/bias.md explains what is seen.

    Table:   reinforcepp bias

    Figure:  reinforcepp bias -o bias.png
    """
    if out is not None and out.suffix.lower() != ".png":
        echo(f"error: {out}: the file must end in .png", err=True)
        raise typer.Exit(2)
    # Imported here to keep other commands fast.
    from reinforcepp_verl.exact import study

    console = SafeConsole(highlight=False)
    console.print(study.table())
    if out is None:
        return
    try:
        study.draw(out)
    except OSError as error:
        echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    echo(out)
