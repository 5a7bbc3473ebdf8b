"""The table of docs/explain.md is that of the rules."""

from pathlib import Path

from reinforcepp_verl.diagnosis.rules import markdown

PAGE = Path(__file__).parents[2] / "docs" / "explain.md"


def test_the_page_has_the_rules():
    assert markdown() in PAGE.read_text()
