"""How a run ends early: Ctrl-C, a broken reward function. Failing processes: test_faults.py."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

import pytest

from reinforcepp_verl.runs import processes

pytestmark = [pytest.mark.e2e, pytest.mark.long]


def wait_until(condition, timeout_s: float, what: str):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.5)
    raise AssertionError(f"{what} did not happen within {timeout_s} s")


def newest_run(workplace: Path) -> Path:
    return (workplace / "runs" / "latest").resolve()


def start_training(start, command: Path, *overrides: str):
    return start(command, "train", "+recipe=math_rlvr/arithmetic", *overrides)


@pytest.fixture
def command():
    return Path(sys.executable).with_name("reinforcepp")


def test_ctrl_c_during_the_start_ends_the_run_and_everything_it_started(start, command, workplace):
    before = newest_run(workplace)
    process = start_training(start, command)
    wait_until(lambda: newest_run(workplace) != before, 60, "a new run folder")
    run = newest_run(workplace)
    wait_until(lambda: len(processes.find_all(str(run))) > 5, 120, "the start of Ray")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)

    assert process.returncode == 75
    assert f"resume with: reinforcepp resume {run}" in output
    assert "Traceback" not in output
    assert json.loads((run / "summary.json").read_text())["status"] == "stopped"
    assert not processes.find_all(str(run))


def test_a_broken_reward_function_is_reported_in_a_line(start, command, workplace, tmp_path):
    reward = tmp_path / "broken.py"
    reward.write_text("def compute_score(**_):\n    raise RuntimeError('no verdict today')\n")
    process = start_training(start, command, f"reward.custom_reward_function.path={reward}")
    output, _ = process.communicate(timeout=300)

    assert process.returncode not in (0, None)
    assert "Traceback" not in output
    failed = output[output.index("failed:") :]
    assert "answers could not be scored" in failed and "no verdict today" in failed
    assert len(failed.splitlines()) <= 4
    assert str(newest_run(workplace) / "train.log") in failed
    assert not processes.find_all(str(newest_run(workplace)))
