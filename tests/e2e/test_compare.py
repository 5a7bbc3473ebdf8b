"""A comparison that is killed goes on and ends with the same table as one that is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from reinforcepp_verl.comparison import table
from reinforcepp_verl.comparison.cells import OF_TIME_AND_MEMORY
from reinforcepp_verl.runs import processes

pytestmark = [pytest.mark.long, pytest.mark.e2e, pytest.mark.timeout(1800)]

SUITE = """question: Q?
recipe: math_rlvr/arithmetic
steps: 3
overrides: [trainer.test_freq=3]
methods:
  reinforcepp: []
  grpo: []
"""


def command(results: str) -> list[str]:
    arguments = ["mine.yaml", "--seeds", "2", "--results", results, "--runs-dir", f"runs_{results}", "--jobs", "2"]
    return [sys.executable, "-m", "reinforcepp_verl", "compare", *arguments]


def numbers(folder: Path) -> pd.DataFrame:
    rows = table.read(folder, "mine")
    return rows[~rows.metric.isin(OF_TIME_AND_MEMORY)].drop(columns="date").reset_index(drop=True)


def live_runs(folder: Path) -> list[str]:
    found = [str(path.resolve()) for path in folder.glob("runs_killed/*/*/latest")]
    return [run for run in found if processes.find_all(run)]


@pytest.fixture
def folder(arithmetic, tmp_path) -> Path:
    (tmp_path / "data").symlink_to(arithmetic / "data")
    (tmp_path / "mine.yaml").write_text(SUITE)
    return tmp_path


def test_a_killed_comparison_ends_with_the_same_table(folder):
    subprocess.run(command("whole"), cwd=folder, check=True)
    first = subprocess.Popen(command("killed"), cwd=folder)
    try:
        while not (folder / "killed/mine.parquet").is_file():
            assert first.poll() is None
            time.sleep(1)
        time.sleep(10)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        deadline = time.monotonic() + 300
        while live_runs(folder):
            assert time.monotonic() < deadline, "trainings outlive the command that started them"
            time.sleep(1)
        left = 4 - len(table.finished(table.read(folder / "killed", "mine")))
        assert 0 < left < 4
        again = subprocess.run(command("killed"), cwd=folder, check=True, capture_output=True, text=True)
        assert f"{left} trainings of 3 steps to do, {4 - left} done" in again.stdout
    finally:
        first.kill()
        for path in folder.glob("runs_*/*/*/latest"):
            processes.terminate_all(str(path.resolve()))
    pd.testing.assert_frame_equal(numbers(folder / "killed"), numbers(folder / "whole"))
