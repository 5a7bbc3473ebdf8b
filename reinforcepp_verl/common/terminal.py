"""Output on a terminal: text as it is, tables in full, and readers that leave."""

from __future__ import annotations

import os
import sys

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table


class LastingConsole(Console):
    """A console whose reader may leave, as `tee` does on Ctrl-C: the run goes on, and its files tell of it."""

    def on_broken_pipe(self) -> None:
        """Write to nowhere from now on; rich would end the program."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def say(console: Console, text: str, style: str | None = None) -> None:
    """Print text as it is: paths and messages of others may hold what rich takes for markup."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


WIDEST = 1000


def widen_pipe(console: Console, table: Table) -> None:
    """Have `table` printed in full where the output is a file or a pipe: those have no width to fit into."""
    if not console.is_terminal:
        console.width = Measurement.get(console, console.options.update(max_width=WIDEST), table).maximum
