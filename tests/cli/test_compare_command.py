"""The `compare` and `bias` commands, up to the trainings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reinforcepp_verl.cli import app
from reinforcepp_verl.comparison import suite as suites

DOCS = Path(__file__).parents[2] / "docs"
run = CliRunner().invoke


def test_without_a_suite_all_are_listed():
    lines = run(app, ["compare"]).output.splitlines()
    assert [line.split(":")[0] for line in lines] == suites.names()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["arithmetics"], "error: there is no suite arithmetics: shipped are ablations, arithmetic"),
        (["mine.yaml"], "error: there is no suite mine.yaml: give the path of a YAML file"),
        (["arithmetic", "--methods", "grpo,dpo"], "error: arithmetic has no method dpo: it has reinforcepp"),
    ],
)
def test_a_mistake_is_one_line_with_the_fix(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = run(app, ["compare", *arguments])
    assert result.exit_code == 2
    assert result.stderr.startswith(message) and result.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("*.parquet"))


def test_bias_prints_the_table_of_its_page():
    printed = re.findall(r"│ (\S.*?)\s+│ ([\d.]+)\s+│ ([\d.]+)\s+│", run(app, ["bias"]).output)
    shown = re.findall(r"^\| (\S.*?) \| ([\d.]+) \| ([\d.]+) \|$", (DOCS / "bias.md").read_text(), re.MULTILINE)
    assert len(printed) == 9 and printed == shown


def test_bias_refuses_another_kind_of_file(tmp_path):
    result = run(app, ["bias", "-o", str(tmp_path / "bias.pdf")])
    assert result.exit_code == 2 and "must end in .png" in result.stderr
