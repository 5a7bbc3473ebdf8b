"""Console output: literal text, tables at full width, and closed pipes."""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table


class PipeSafeConsole(Console):
    """A console that survives a closed pipe (such as `tee` ended by Ctrl-C), so that the run continues."""

    def on_broken_pipe(self) -> None:
        """Discard further output; by default rich would end the program."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def say(console: Console, text: str, style: str | None = None) -> None:
    """Print text literally: paths and foreign messages may contain what rich interprets as markup."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


WIDEST = 1000


def widen_pipe(console: Console, table: Table) -> None:
    """Print `table` at full width if the output is a file or a pipe, which have no width limit."""
    if not console.is_terminal:
        console.width = Measurement.get(console, console.options.update(max_width=WIDEST), table).maximum
