"""Kill a run with SIGKILL at random moments, resume it every time, and compare it with one that was left alone.

    reinforcepp prepare arithmetic
    python benchmarks/kill_loop.py --kills 20

Every other kill waits for a save and falls into it; saves are drawn out for that (slow_saves.py). A kill takes all
processes of the run at once, the command first. Prints a line for each kill, and exits with 1 if a step was lost or
doubled, a half-saved checkpoint was taken for a whole one, or a metric of any step differs from the run left alone.
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
"""About how long a save is drawn out to."""
PROGRESS = 3
"""The latest moment lies this many kills' share of the training after the start, so that the run outlives all kills."""
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
    """From the start of the attempt."""
    half_saved: str
    """What of a save was there when it fell."""
    recorded: int
    """The newest step in metrics.jsonl."""
    checkpoint: int
    """The newest whole checkpoint; 0 for none."""


def main(
    kills: Annotated[int, typer.Option(help="How often to kill.")] = 20,
    steps: Annotated[int, typer.Option(help="Steps of the run.")] = 30,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
) -> None:
    """Kill, resume, compare."""
    moments = random.Random(seed)
    console.print("the run that is left alone")
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
    console.print("\n".join(faults) or "every step once, all metrics as in the run that was left alone")
    raise typer.Exit(1 if faults else 0)


def make_run(steps: int, name: str) -> RunFolder:
    """Create a run without starting it."""
    arguments = [*RECIPE, f"trainer.total_training_steps={steps}", f"trainer.experiment_name={name}"]
    done = subprocess.run([COMMAND, "create", *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return RunFolder(Path(done.stdout.strip()))


def start(run: RunFolder) -> subprocess.Popen:
    """Start the next attempt."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
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
        # Until the training begins, what is there may be the rest of the save before.
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
    """Read metrics.jsonl; a step that it holds twice is an error, and so is a line cut off in its middle."""
    if not run.metrics.is_file():
        return {}
    records = [json.loads(line) for line in run.metrics.read_text().splitlines(keepends=True) if line.endswith("\n")]
    steps = [record["step"] for record in records]
    if sorted(set(steps)) != steps:
        raise RuntimeError(f"{run.metrics} holds the steps {steps}")
    return {record["step"]: record for record in records}


def damage(table: list[Kill]) -> list[str]:
    """Return where a half-saved checkpoint had its name, or one was lost from one kill to the next."""
    faults = [f"kill {number}: {kill.moment}" for number, kill in enumerate(table, 1) if "torn" in kill.moment]
    if len(table) > 1 and not any(kill.half_saved for kill in table):
        faults.append("no kill fell into a save")
    for number, (before, after) in enumerate(zip(table, table[1:], strict=False), 2):
        if after.checkpoint < before.checkpoint:
            faults.append(f"kill {number}: checkpoint {before.checkpoint} was there, now it is {after.checkpoint}")
    return faults


def differences(left: Mapping[int, Mapping[str, Any]], right: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """Return the steps and metrics, but for the exempt ones, that two runs do not share up to TOLERANCE."""
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
    lines = ["| kill | moment | after s | half saved | last step recorded | whole checkpoint |", "|" + "---|" * 6]
    for number, kill in enumerate(table, 1):
        cells = (number, kill.moment, kill.seconds, kill.half_saved or "-", kill.recorded, kill.checkpoint or "-")
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    print("\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
