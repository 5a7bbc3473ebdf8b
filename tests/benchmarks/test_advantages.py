"""The benchmark of the estimators runs and reports every case; its times are not checked here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "advantages.py"
CASES = [
    (estimator, gamma, mask)
    for estimator, gamma in (("reinforcepp", 1.0), ("reinforcepp", 0.99), ("reinforcepp_baseline", 1.0))
    for mask in ("uniform", "gaps")
]
CONTESTANTS = ["ours", "verl", "loop", "copy"]


def test_quick_run_reports_every_case(tmp_path):
    numbers = tmp_path / "numbers.json"
    command = [sys.executable, str(SCRIPT), "--quick", "--rounds", "1", "--json", str(numbers)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = [line.split()[:4] for line in printed.splitlines() if line.strip().startswith("reinforcepp") and "x" in line]
    assert [row for row in rows if row[1] == "16x256"] == [[name, "16x256", f"{g:g}", mask] for name, g, mask in CASES]
    cases = json.loads(numbers.read_text())["cases"]
    assert [(case["estimator"], case["gamma"], case["mask"]) for case in cases] == CASES
    for case in cases:
        assert list(case["seconds"]) == list(case["extra_memory"]) == CONTESTANTS
        assert all(value > 0 for value in case["seconds"].values())
