"""The lines of docs/combinations.md pass the checks before a run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reinforcepp_verl.preflight import examine

PAGE = (Path(__file__).parents[2] / "docs" / "combinations.md").read_text()
LINES = re.findall(r"^\| \S.*\| `(.+)` \|$", PAGE, re.MULTILINE)


def test_the_page_has_lines():
    assert len(LINES) >= 11


@pytest.mark.parametrize("line", LINES)
def test_line_is_sound(compose, arithmetic, monkeypatch, line):
    monkeypatch.chdir(arithmetic)
    found = examine(compose("+recipe=math_rlvr/arithmetic", "+method=reinforcepp_baseline", *line.split()))
    assert found.errors == []
