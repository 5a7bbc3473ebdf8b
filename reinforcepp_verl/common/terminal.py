"""Console output: literal text without control characters, tables at full width, and closed pipes.

All commands print through this module: what models, data sets and errors say must not move the cursor or set the title.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

_CONTROL = (*range(0x20), *range(0x7F, 0xA0))
# They reorder what follows on the line.
_DIRECTION = (0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
_SHOWN = {
    **{code: f"\\x{code:02x}" for code in _CONTROL if chr(code) not in "\t\n"},
    **{code: f"\\u{code:04x}" for code in _DIRECTION},
}


def printable(text: str) -> str:
    r"""Return the text with its control characters shown: an escape sequence begins with `\x1b`."""
    return text.translate(_SHOWN)


def echo(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Print text as it is, except for control characters."""
    typer.echo(printable(str(text)), err=err, nl=nl)  # noqa: TID251


class SafeConsole(Console):
    """A console that shows the control characters of a text instead of sending them; its own are sent."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the text to print; here, so that columns have the width of what is shown."""
        return super().render_str(printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as rich does, with control characters shown."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


class PipeSafeConsole(SafeConsole):
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
