"""What a run and an evaluation leave outside the run's folder when all their processes are killed in a transfer."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.runs.temporary_folder import SHARED_MEMORY

pytestmark = [pytest.mark.e2e, pytest.mark.long]

COMMAND = Path(sys.executable).with_name("reinforcepp")
HELPERS = Path(__file__).parents[2] / "benchmarks" / "helpers"
SLOW = {"PYTHONPATH": str(HELPERS), "VERL_USE_EXTERNAL_MODULES": "slow_transfer"}


def kill_in_a_transfer(process, run: RunFolder, kill_loop) -> tuple[list[Path], list[Path]]:
    """Kill everything during a transfer; return the attempt's temporary folder, with its link, and its buffer."""

    def found() -> tuple[list[Path], list[Path]]:
        attempts = run.attempts()
        named = (
            attempts[-1].temporary.read_text().splitlines()[:2] if attempts and attempts[-1].temporary.exists() else []
        )
        folders = [Path(name) for name in dict.fromkeys(named)]
        return folders, [file for folder in folders for file in SHARED_MEMORY.glob(f"{folder.name}-verl_weights_*")]

    kill_loop.wait_until(lambda: found()[1], process)
    kill_loop.kill_tree(process, run)
    folders, buffers = found()
    assert buffers and all(path.exists() for path in folders)
    return folders, buffers


def test_the_next_command_removes_what_a_kill_leaves_and_nothing_else(start, workplace, kill_loop):
    options = ["trainer.total_training_steps=1", "trainer.save_freq=1", "trainer.val_before_train=false"]
    create = [COMMAND, "create", "+recipe=math_rlvr/arithmetic", *options, "trainer.test_freq=-1"]
    created = subprocess.run(create, cwd=workplace, check=True, stdout=subprocess.PIPE, text=True)
    run = RunFolder(Path(created.stdout.strip()))
    of_another_run = SHARED_MEMORY / f"rpp-{uuid.uuid4().hex[:8]}-verl_weights_1"
    of_another_run.write_text("in use")
    try:
        folders, buffers = kill_in_a_transfer(start(COMMAND, "resume", run.path, **SLOW), run, kill_loop)
        start(COMMAND, "resume", run.path).output()
        assert not any(os.path.lexists(path) for path in (*folders, *buffers))

        evaluation = start(COMMAND, "eval", run.checkpoints / "global_step_1", **SLOW)
        kill_loop.wait_until(lambda: run.evaluations.is_dir() and any(run.evaluations.glob("*_step_1")), evaluation)
        [folder] = run.evaluations.glob("*_step_1")
        folders, buffers = kill_in_a_transfer(evaluation, RunFolder(folder), kill_loop)
        assert "nothing left to do" in start(COMMAND, "resume", run.path).output()
        assert not any(os.path.lexists(path) for path in (*folders, *buffers))
        assert of_another_run.read_text() == "in use"
    finally:
        of_another_run.unlink()
