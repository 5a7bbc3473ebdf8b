"""docs/results.md is what the tables in results/ give."""

from __future__ import annotations

from pathlib import Path

from reinforcepp_verl.comparison import page
from reinforcepp_verl.comparison.suite import with_table

ROOT = Path(__file__).parents[2]


def test_the_page_of_results_agrees_with_the_tables():
    written = (ROOT / "docs" / "results.md").read_text()
    assert written == page.markdown(ROOT / "results", "results"), "run: reinforcepp report results -o docs/results.md"
    for suite in with_table(ROOT / "results"):
        assert (ROOT / "docs" / f"results_{suite.name}.png").is_file()
