"""What models, data sets and errors say cannot move the cursor or set the title."""

from __future__ import annotations

import ast
import io
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

import reinforcepp_verl
from reinforcepp_verl.common.terminal import SafeConsole, echo, printable, say

HOSTILE = "a\x1b]0;title\x07b\x1b[2Jc\x9b31md\re\x08"
HARMLESS = r"a\x1b]0;title\x07b\x1b[2Jc\x9b31md\x0de\x08"


def test_control_characters_are_shown():
    assert printable(HOSTILE) == HARMLESS
    assert printable("a\u202eb\u2066c\u200fd\u2028e") == r"a\u202eb\u2066c\u200fd\u2028e"
    assert printable("tab\tline\nüπ🙂") == "tab\tline\nüπ🙂"


def test_echo_shows_them(capsys):
    echo(HOSTILE)
    echo(HOSTILE, err=True, nl=False)
    assert capsys.readouterr() == (HARMLESS + "\n", HARMLESS)


def _printed(renderable: object, **options) -> str:
    stream = io.StringIO()
    SafeConsole(file=stream, force_terminal=True, width=100, color_system="standard").print(renderable, **options)
    return stream.getvalue()


def test_a_console_shows_them_and_keeps_its_own():
    table = Table()
    table.add_column(HOSTILE)
    table.add_row(HOSTILE, style="red")
    for renderable in (HOSTILE, table, Panel(HOSTILE), Text(HOSTILE)):
        text = _printed(renderable, markup=False, highlight=False)
        # rich removes some of a Text.
        assert (HARMLESS if renderable != Text(HOSTILE) else r"a\x1b]0;titleb\x1b[2J") in text
        assert "\x1b]0" not in text and "\x1b[2J" not in text and "\x9b" not in text and "\x07" not in text
    assert "\x1b[31m" in _printed(table)


def test_say_prints_markup_literally(capsys):
    say(SafeConsole(), f"[bold]{HOSTILE}")
    assert capsys.readouterr().out == f"[bold]{HARMLESS}\n"


def test_rich_itself_would_send_them():
    stream = io.StringIO()
    Console(file=stream).print(HOSTILE, markup=False)
    assert "\x1b]0;title" in stream.getvalue()


def test_no_module_prints_by_a_console_of_richs_own():
    package = Path(reinforcepp_verl.__file__).parent
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "Console", f"{file}:{node.lineno}: use SafeConsole"
