"""The benchmark of the verifier runs and reports every kind of answer; its speeds are not checked here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "verifier_speed.py"
KINDS = ["plain", "expressions", "hung"]


def test_quick_run_reports_every_kind(tmp_path):
    pytest.importorskip("verl")
    numbers = tmp_path / "numbers.json"
    command = [sys.executable, str(SCRIPT), "--quick", "--json", str(numbers)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    assert [line.split()[1] for line in printed.splitlines() if line.startswith("│")] == KINDS
    kinds = json.loads(numbers.read_text())["kinds"]
    assert [kind["kind"] for kind in kinds] == KINDS
    assert all(rate > 0 for kind in kinds for rate in kind["per_second"].values())
    assert [kind["right"]["ours"] for kind in kinds] == [20, 20, 19]
