"""Kills a run with SIGKILL at random moments, resumes it every time, and compares it with an uninterrupted run.

    reinforcepp prepare arithmetic
    python benchmarks/kill_loop.py --kills 20

Every other kill waits for a save and interrupts it; saves are slowed down for that (helpers/slow_saves.py). A kill hits
all processes of the run at once, the command first. Prints a line for each kill, and exits with 1 if a step was lost or
duplicated, an incomplete checkpoint was accepted, or a metric of any step differs from the uninterrupted run.
"""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from rich.console import Console

from reinforcepp_verl.checkpoints import store
from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.runs import processes

COMMAND = str(Path(sys.executable).with_name("reinforcepp"))
RECIPE = ["+recipe=math_rlvr/arithmetic", "trainer.save_freq=2", "trainer.test_freq=3"]
SAVE_S = 2.5
"""Approximate duration of a slowed-down save."""
PROGRESS = 3
"""Latest moment after the start, in shares of the training per kill, so that the run outlives all kills."""
ATTEMPT_DEADLINE_S = 900
TOLERANCE = 1e-5
EXEMPT = ("timing", "perf/", "rollout_corr/", "training/rollout_")
"""Times, and the gap between rollout and trainer: rounding of 1e-7 that depends on how vLLM batches its requests."""

console = Console()


@dataclass(frozen=True)
class Kill:
    """A line of the table."""

    moment: str
    seconds: float
    """Since the start of the attempt."""
    half_saved: str
    """The parts of a save that existed at the kill."""
    recorded: int
    """The newest step in metrics.jsonl."""
    checkpoint: int
    """The newest complete checkpoint; 0 for none."""


def main(
    kills: Annotated[int, typer.Option(help="Number of kills.")] = 20,
    steps: Annotated[int, typer.Option(help="Steps of the run.")] = 30,
    seed: Annotated[int, typer.Option(help="Seed of the moments.")] = 0,
) -> None:
    """Kill, resume, compare."""
    moments = random.Random(seed)
    console.print("the uninterrupted run")
    alone = make_run(steps, "alone")
    process, started = start(alone), time.monotonic()
    wait_until(lambda: any(attempt.training.exists() for attempt in alone.attempts()), process)
    start_s = time.monotonic() - started
    ended_well(alone, process)
    training_s = time.monotonic() - started - start_s
    latest = start_s + PROGRESS * training_s / kills
    run = make_run(steps, "killed")
    table = [kill_one(run, number, latest, moments) for number in range(kills)]
    console.print("the last attempt, to the end")
    ended_well(run, start(run))
    show(table)
    faults = [*damage(table), *differences(read(alone), read(run))]
    attempts = json.loads(run.summary.read_text())["attempts"]
    console.print(f"{kills} kills, {attempts} attempts, {len(read(run))} records; tolerance {TOLERANCE}")
    console.print("\n".join(faults) or "every step exactly once, all metrics as in the uninterrupted run")
    raise typer.Exit(1 if faults else 0)


def make_run(steps: int, name: str) -> RunFolder:
    """Create a run without starting it."""
    arguments = [*RECIPE, f"trainer.total_training_steps={steps}", f"trainer.experiment_name={name}"]
    done = subprocess.run([COMMAND, "create", *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return RunFolder(Path(done.stdout.strip()))


def start(run: RunFolder) -> subprocess.Popen:
    """Start the next attempt."""
    path = os.pathsep.join([str(Path(__file__).with_name("helpers")), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "VERL_USE_EXTERNAL_MODULES": "slow_saves"}
    with (run.path / "console.log").open("ab") as log:
        return subprocess.Popen([COMMAND, "resume", str(run.path)], env=environment, stdout=log, stderr=log)


def ended_well(run: RunFolder, attempt: subprocess.Popen) -> None:
    """Wait for the end of an attempt, which is the end of the run."""
    exit_code = attempt.wait(ATTEMPT_DEADLINE_S)
    if exit_code != 0:
        raise RuntimeError(f"{run.path} ended with {exit_code}; see console.log in it")


def kill_one(run: RunFolder, number: int, latest: float, moments: random.Random) -> Kill:
    """Start an attempt and kill it: inside a save, or between its start and `latest` seconds later, in turns."""
    attempts, saving = len(run.attempts()), run.checkpoints / store.SAVING_FOLDER
    process, started = start(run), time.monotonic()
    if number % 2:
        moment = "in a save"
        # Before the training begins, the folder may have the remains of the previous save.
        wait_until(lambda: len(run.attempts()) > attempts and run.attempts()[-1].training.exists(), process)
        wait_until(saving.exists, process)
        time.sleep(moments.uniform(0, SAVE_S))
    else:
        moment, end = "any", started + moments.uniform(0, latest)
        wait_until(lambda: time.monotonic() > end, process)
    seconds = time.monotonic() - started
    if process.poll() is not None:
        raise RuntimeError(f"{run.path} ended with {process.returncode} before kill {number + 1}: give it more --steps")
    half_saved = ", ".join(sorted(path.name for path in saving.glob("*/global_step_*/*"))) if saving.exists() else ""
    kill_tree(process, run)
    found, ignored = store.newest_checkpoint(run.checkpoints)
    kill = Kill(
        moment=moment + (f"; torn: {ignored}" if ignored else ""),
        seconds=round(seconds, 1),
        half_saved=half_saved,
        recorded=max(read(run), default=0),
        checkpoint=found.manifest.step if found else 0,
    )
    console.print(f"{number + 1}: {kill}")
    return kill


def wait_until(condition: Any, process: subprocess.Popen) -> None:
    """Wait, but not beyond the end of the attempt."""
    deadline = time.monotonic() + ATTEMPT_DEADLINE_S
    while process.poll() is None and not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited for {ATTEMPT_DEADLINE_S} s")
        time.sleep(0.01)


def kill_tree(process: subprocess.Popen, run: RunFolder) -> None:
    """Send SIGKILL to all processes of a run, and wait until they are gone."""
    tree = [process, *processes.find_all(str(run.path))]
    for member in tree:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            pass
    process.wait()
    while left := processes.find_all(str(run.path)):
        for member in left:
            member.kill()
        psutil.wait_procs(left, timeout=5)


def read(run: RunFolder) -> dict[int, dict[str, Any]]:
    """Read metrics.jsonl; a duplicate step is an error, and so is a truncated line."""
    if not run.metrics.is_file():
        return {}
    records = [json.loads(line) for line in run.metrics.read_text().splitlines(keepends=True) if line.endswith("\n")]
    steps = [record["step"] for record in records]
    if sorted(set(steps)) != steps:
        raise RuntimeError(f"{run.metrics} has the steps {steps}")
    return {record["step"]: record for record in records}


def damage(table: list[Kill]) -> list[str]:
    """Return the cases in which an incomplete checkpoint had its final name, or one was lost between two kills."""
    faults = [f"kill {number}: {kill.moment}" for number, kill in enumerate(table, 1) if "torn" in kill.moment]
    if len(table) > 1 and not any(kill.half_saved for kill in table):
        faults.append("no kill interrupted a save")
    for number, (before, after) in enumerate(zip(table, table[1:], strict=False), 2):
        if after.checkpoint < before.checkpoint:
            faults.append(f"kill {number}: checkpoint {before.checkpoint} was there, now it is {after.checkpoint}")
    return faults


def differences(left: Mapping[int, Mapping[str, Any]], right: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """Return the steps and metrics, except the exempt ones, that differ between two runs by more than TOLERANCE."""
    if left.keys() != right.keys():
        return [f"steps {sorted(left)} and {sorted(right)}"]
    found = []
    for step, record in left.items():
        names = {name for name in (*record, *right[step]) if not any(part in name for part in EXEMPT)}
        for name in sorted(names):
            one, other = record.get(name, math.nan), right[step].get(name, math.nan)
            if not math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=1e-9):
                found.append(f"step {step}: {name} is {one} and {other}")
    return found


def show(table: list[Kill]) -> None:
    """Print the table as Markdown."""
    header = "| kill | moment | after s | half saved | last step recorded | newest complete checkpoint |"
    lines = [header, "|" + "---|" * 6]
    for number, kill in enumerate(table, 1):
        cells = (number, kill.moment, kill.seconds, kill.half_saved or "-", kill.recorded, kill.checkpoint or "-")
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    print("\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
