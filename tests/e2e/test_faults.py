"""A run computes NaN, and one of its processes hangs: each time it ends by itself, names the cause and loses nothing.

`benchmarks/faults.py` injects the other faults.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reinforcepp_verl.runs import processes

pytestmark = [pytest.mark.e2e, pytest.mark.long]

COMMAND = Path(sys.executable).with_name("reinforcepp")
POISON = Path(__file__).parents[2] / "benchmarks" / "helpers" / "poison.py"
ENGINE = "VLLM::EngineCore"
LEARNING_RATE = "actor_rollout_ref.actor.optim.lr"
START_DEADLINE_S, END_DEADLINE_S = 600, 300
OPTIONS = [
    "+recipe=math_rlvr/arithmetic",
    "trainer.val_before_train=false",
    "trainer.test_freq=-1",
    "runs_dir=runs/of_faults",
    "trainer.total_training_steps=50",
    "trainer.save_freq=1",
    "guards.max_skipped_updates=2",
    "guards.hang_deadline_s=20",
    "actor_rollout_ref.model.external_lib=poison",
    f"reward.custom_reward_function.path={POISON}",
]


def newest_run(workplace: Path) -> Path:
    return (workplace / "runs" / "of_faults" / "latest").resolve()


def recorded(run: Path) -> list[int]:
    file = run / "metrics.jsonl"
    return [json.loads(line)["step"] for line in file.read_text().splitlines()] if file.is_file() else []


def newest_checkpoint(run: Path) -> int:
    return max(int(file.parent.name.rpartition("_")[2]) for file in run.glob("checkpoints/global_step_*/COMPLETE"))


@pytest.fixture
def run_with_fault(start, workplace) -> Iterator[Callable[..., str]]:
    """Return a function that starts a command, injects a fault after two steps, and returns the command's output."""

    def run_until_it_ends(inject: Callable[[Path], object], *arguments: str, steps_before: int = 0) -> str:
        process = start(COMMAND, *arguments, PYTHONPATH=str(POISON.parent))
        deadline = time.monotonic() + START_DEADLINE_S
        while len(recorded(newest_run(workplace))) < steps_before + 2:
            assert process.poll() is None and time.monotonic() < deadline, process.communicate(timeout=60)[0]
            time.sleep(0.1)
        inject(newest_run(workplace))
        output, _ = process.communicate(timeout=END_DEADLINE_S)
        assert process.returncode == 1, output
        assert "Traceback" not in output
        assert not processes.find_all(str(newest_run(workplace)))
        return output

    yield run_until_it_ends
    processes.terminate_all(str(newest_run(workplace)))


def stop_the_engine(run: Path) -> None:
    [engine] = [process for process in processes.find_all(str(run)) if ENGINE in " ".join(process.cmdline())]
    engine.send_signal(signal.SIGSTOP)


def test_nan_gradients_and_a_hanging_engine_end_the_run_with_the_cause_and_lose_nothing(run_with_fault, workplace):
    output = run_with_fault(lambda run: (run / "POISON").write_text("gradients"), "train", *OPTIONS)
    run = newest_run(workplace)
    steps = recorded(run)
    assert "for 2 steps in a row actor/grad_norm is nan" in output and "guards.max_skipped_updates=2" in output
    assert re.search(r"WARNING:.*actor/grad_norm is nan", (run / "train.log").read_text())
    assert newest_checkpoint(run) == steps[-1]
    assert json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["guards/skipped_updates"] == 1

    (run / "POISON").unlink()
    # The fix that the messages name.
    output = run_with_fault(stop_the_engine, "resume", str(run), f"{LEARNING_RATE}=1e-5", steps_before=len(steps))
    assert json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["actor/lr"] == 1e-5
    assert "vLLM engine vllm_server_0_0 (pid " in output and "its log last said: " in output
    assert newest_checkpoint(run) == recorded(run)[-1]
    assert recorded(run) == list(range(1, len(recorded(run)) + 1))
