"""Judges this package, verl, OpenRLHF, TRL, ms-swift and SkyRL: the table of docs/conformance.md.

    python benchmarks/conformance_table.py
    python benchmarks/conformance_table.py --python openrlhf=venvs/openrlhf/bin/python --python trl=venvs/trl/bin/python

Frameworks need different versions of the same packages, so each runs in an environment of its own, by default this one.
docs/conformance.md tells how to create them. The output is Markdown.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

ROOT = Path(__file__).resolve().parents[1]
ADAPTERS = Path(__file__).parent / "conformance_adapters"
PARTS = {"reinforcepp": "REINFORCE++", "reinforcepp_baseline": "baseline variant", "policy_loss": "loss"}
TEXTS = {"paper": "paper", "openrlhf": "OpenRLHF", "verl": "verl", "reinforcepp-verl": "own"}


class Contestant(NamedTuple):
    """One implementation."""

    title: str
    package: str
    call: str


CONTESTANTS = [
    Contestant("reinforcepp-verl", "reinforcepp-verl", "ours.py:call"),
    Contestant("verl", "verl", "verl_builtin.py:call"),
    Contestant("OpenRLHF", "openrlhf", "openrlhf_adapter.py:call"),
    Contestant("SkyRL", "skyrl", "skyrl_adapter.py:call"),
    Contestant("ms-swift", "ms-swift", "swift_adapter.py:call"),
    Contestant("TRL RLOOTrainer", "trl", "trl_adapter.py:rloo"),
    Contestant("TRL GRPOTrainer", "trl", "trl_adapter.py:grpo"),
]


class Result(NamedTuple):
    """The verdicts on one implementation."""

    contestant: Contestant
    version: str
    report: dict[str, Any]


def run(contestant: Contestant, python: str) -> Result | str:
    """Judge it with the command, in its environment; return why not if that fails."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "VERL_PLATFORM": "cpu"}
    ask = f"from importlib.metadata import version; print(version({contestant.package!r}))"
    asked = subprocess.run([python, "-c", ask], env=environment, capture_output=True, text=True)
    if asked.returncode:
        return f"{contestant.package} is not installed in the environment of {python}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "report.json")
        called = ["--call", str(ADAPTERS / contestant.call), "--json", str(file)]
        command = [python, "-m", "reinforcepp_verl", "conformance", *called]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode not in (0, 1):
            return done.stderr.strip().splitlines()[-1]
        return Result(contestant, asked.stdout.strip(), json.loads(file.read_text()))


def table(results: list[Result]) -> str:
    """Return the counts: agreeing of judged cases, by part and by text."""
    heads = ["", "version", *PARTS.values(), *(f"following {text}" for text in TEXTS.values()), "not applicable"]
    lines = [f"| {' | '.join(heads)} |", "|---|---|" + "---:|" * (len(heads) - 2)]
    for contestant, version, report in results:
        parts = [_share(report["parts"][part]["outcomes"]) for part in PARTS]
        texts = [_share(report["texts"][text]) for text in TEXTS]
        unsupported = sum(case["outcome"] == "unsupported" for case in report["cases"].values())
        lines.append(f"| {' | '.join([contestant.title, version, *parts, *texts, str(unsupported)])} |")
    return "\n".join(lines)


def _share(outcomes: dict[str, int]) -> str:
    judged = sum(outcomes.get(outcome, 0) for outcome in ("agrees", "deviates", "error"))
    return f"{outcomes.get('agrees', 0)} / {judged}" if judged else "–"


def section(result: Result) -> str:
    """Return what was called, and every deviation in words."""
    contestant, version, report = result
    docstring = ast.get_docstring(ast.parse((ADAPTERS / contestant.call.split(":")[0]).read_text())) or ""
    about = docstring.partition("\n\n")[2].replace("\n", " ")
    lines = [f"### {contestant.title} {version}", "", about, ""]
    for part, title in PARTS.items():
        judged = report["parts"][part]
        found = [f"{d['sentence']} ({_cases(d['cases'])})" for d in judged["deviations"]]
        found += [
            f"`{name}` fails: {report['cases'][name]['detail']}" for name in _failed(report, part, judged["outcomes"])
        ]
        found += [f"`{name}`: {report['cases'][name]['detail']}; not explained" for name in judged["unexplained"]]
        if found:
            lines += [f"**{title[0].upper()}{title[1:]}**", "", *(f"- {line}" for line in found), ""]
    if report["conforms"]:
        lines += ["No deviation.", ""]
    return "\n".join(lines).rstrip("\n")


def _failed(report: dict[str, Any], part: str, outcomes: dict[str, int]) -> list[str]:
    names = [name for name, case in report["cases"].items() if case["outcome"] == "error" and case["part"] == part]
    assert len(names) == outcomes["error"]
    return names


def _cases(names: list[str]) -> str:
    return f"`{names[0]}`" if len(names) == 1 else f"{len(names)} cases, such as `{names[0]}`"


def main(
    python: Annotated[
        list[str], typer.Option(metavar="PACKAGE=PYTHON", help="The Python of a framework's environment.")
    ] = [],  # noqa: B006  (typer copies it)
) -> None:
    """Print the table and the deviations as Markdown."""
    pythons = dict(pair.split("=", 1) for pair in python)
    if unknown := set(pythons) - {contestant.package for contestant in CONTESTANTS}:
        raise typer.BadParameter(f"{', '.join(unknown)}: it must be one of {[c.package for c in CONTESTANTS]}")
    results = []
    for contestant in CONTESTANTS:
        result = run(contestant, pythons.get(contestant.package, sys.executable))
        if isinstance(result, Result):
            results.append(result)
        else:
            print(f"{contestant.title} is left out: {result}", file=sys.stderr)
    print(table(results), *(section(result) for result in results), sep="\n\n")


if __name__ == "__main__":
    typer.run(main)
