"""`reinforcepp explain`: what it prints and writes, and how it refuses."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from reinforcepp_verl.cli import app


@pytest.fixture
def run(tmp_path):
    """Return the folder of a run of ten steps whose engine and trainer disagree."""
    record = {"training/rollout_probs_diff_mean": 0.02, "reward/error_rate": 0.0}
    lines = (json.dumps({"step": step, **record}) + "\n" for step in range(1, 11))
    (tmp_path / "metrics.jsonl").write_text("".join(lines))
    return tmp_path


def explain(*arguments: object):
    return CliRunner().invoke(app, ["explain", *map(str, arguments)])


def test_a_finding_has_evidence_cause_and_change(run):
    out = run / "findings.json"
    result = explain(run, "--json", out)
    assert result.exit_code == 0
    assert f"{run}: steps 1 to 10, 1 finding\n\nengine_gap (steps 6 to 10)\n" in result.output
    assert "evidence  training/rollout_probs_diff_mean 0.02\n" in result.output
    assert "algorithm.rollout_correction.rollout_is=token" in result.output
    assert "because the run does not record it: large_updates (actor/pg_clipfrac)" in result.output
    written = json.loads(out.read_text())
    assert [found["rule"] for found in written["findings"]] == ["engine_gap"]
    assert written["not_recorded"]["large_updates"] == ["actor/pg_clipfrac"]


def test_without_a_finding_it_says_so(run):
    (run / "metrics.jsonl").write_text('{"step": 1, "reward/error_rate": 0.0}\n')
    assert f"{run}: steps 1 to 1, no findings\n" in explain(run).output


def test_a_file_of_the_run_is_not_replaced(run):
    (run / "config.yaml").write_text("seed: 1\n")
    for name in ("metrics.jsonl", "attempt_1/config.yaml"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).touch()
        before = (run / name).read_bytes()
        result = explain(run, "--json", run / name)
        assert result.exit_code == 2 and "is a file of the run" in result.output
        assert (run / name).read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "error: give the folder of a run, for example runs/latest"),
        (["--rules", "."], "error: --rules reads no run and writes no file; remove RUN and --json"),
        (["--rules", "--json", "a"], "error: --rules reads no run and writes no file; remove RUN and --json"),
        (["nowhere"], "error: nowhere: no such run folder; give the folder of a run, for example runs/latest"),
        ([".", "--json", "."], "error: --json .: cannot be written; choose another file"),
    ],
)
def test_it_refuses_in_one_line(arguments, says):
    result = explain(*arguments)
    assert (result.exit_code, result.output.strip()) == (2, says)
