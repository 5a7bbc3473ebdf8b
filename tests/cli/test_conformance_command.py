"""`reinforcepp conformance`: exit codes, words, JSON, and the messages for what cannot be judged."""

from __future__ import annotations

import json
import re
import sys
import textwrap

import pytest
from typer.testing import CliRunner

from reinforcepp_verl.cli import app
from reinforcepp_verl.cli.conformance import conformance

SLOW = """
import torch
from reinforcepp_verl.conformance.case_files import read_cases

CASES = {case.name: case for case in read_cases()}

def call(case):
    expected = CASES[case["name"]].computed()
    return {key: torch.tensor(zeros(value)).double() for key, value in expected.items()}

def zeros(value):
    return [zeros(v) for v in value] if isinstance(value, list) else 0.0 if value is None else value
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def with_file(content, *arguments, call="mine.py:call"):
        (tmp_path / "mine.py").write_text(textwrap.dedent(content))
        return CliRunner().invoke(app, ["conformance", "--call", call, *arguments])

    return with_file


def test_the_example_of_the_help_runs_and_is_told_about_its_n_minus_1(run):
    code = re.search(r"( +import torch\n.*?\* mask}\n)", conformance.__doc__, re.DOTALL)[1]
    done = run(code, "--text", "openrlhf")
    assert done.exit_code == 1
    assert "The variance divides by n - 1. In OpenRLHF: the variance divides by n." in done.stdout
    assert "unsupported: only advantages" in done.stdout


def test_an_implementation_that_agrees(run, tmp_path):
    done = run(SLOW, "--json", "verdicts.json")
    assert done.exit_code == 0, done.stdout
    assert "It conforms." in done.stdout
    verdicts = json.loads((tmp_path / "verdicts.json").read_text())
    assert verdicts["conforms"] and {case["outcome"] for case in verdicts["cases"].values()} == {"agrees"}


def test_a_choice_that_the_text_leaves_open_is_no_deviation_from_it(run):
    other = (
        SLOW.replace("computed()", "computed(n_minus_1(CASES[case['name']].rules))")
        + """
from dataclasses import replace

def n_minus_1(rules):
    return replace(rules, ddof=1) if hasattr(rules, "ddof") else rules
"""
    )
    done = run(other, "--text", "paper")
    assert done.exit_code == 0 and "It conforms." in done.stdout and "The variance divides by n - 1." in done.stdout
    assert run(other, "--text", "openrlhf").exit_code == 1


def test_a_module_of_the_current_folder(run):
    assert run(SLOW, "--text", "paper", call="mine:call").exit_code == 0
    sys.modules.pop("mine")


@pytest.mark.parametrize(
    ("call", "arguments", "message"),
    [
        ("mine.py", (), "write module:function, or path/to/file.py:function"),
        ("other.py:call", (), "no such file"),
        ("no_such_module:call", (), "cannot import no_such_module"),
        ("mine.py:other", (), "has no function other"),
        ("mine.py:call", ("--text", "grpo"), "it must be one of paper, openrlhf, verl, reinforcepp-verl"),
        ("mine.py:call", (), "cases (nothing yet)"),
    ],
)
def test_what_cannot_be_judged(run, call, arguments, message):
    done = run("def call(case):\n    raise NotImplementedError('nothing yet')\n", *arguments, call=call)
    assert done.exit_code == 2
    assert message in done.stderr and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("source", ["def call(case:\n", "raise SystemError('no device')\n"])
def test_a_file_that_does_not_import_is_not_a_deviation(run, source):
    done = run(source)
    assert done.exit_code == 2 and done.stderr.startswith("error: --call ")
    assert "cannot import" in done.stderr and done.stderr.count("\n") == 1


def test_a_file_with_a_dataclass(run):
    source = "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    b: int\n"
    done = run(f"{source}def call(case):\n    raise NotImplementedError('nothing yet')\n")
    assert done.exit_code == 2 and "(nothing yet)" in done.stderr
