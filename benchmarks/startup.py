"""Times the start of the CPU job: from the command to the first training step, and the commands that start nothing.

    reinforcepp prepare arithmetic
    python benchmarks/startup.py

Two variants are run in turn: "forked", as a run on one machine's CPU starts, and "imported", in which every process
imports torch, vLLM and verl itself, as it does under verl's own command. Prints medians and their ratio.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

COMMAND = str(Path(sys.executable).with_name("reinforcepp"))
RECIPE = "+recipe=math_rlvr/arithmetic"
ONE_STEP = ["trainer.total_training_steps=1", "trainer.val_before_train=false", "trainer.test_freq=-1"]
VARIANTS = {
    "imported": [f"+ray_kwargs.ray_init.runtime_env.py_executable={sys.executable}"],
    "forked": [],
}
STARTING_NOTHING = {"check": ["check", RECIPE], "recipes": ["recipes"]}


def seconds_to_first_step(overrides: list[str], runs_dir: Path) -> float:
    """Train for a step in a new run folder; return the seconds until its metrics are recorded."""
    start = time.monotonic()
    process = subprocess.Popen([COMMAND, "train", RECIPE, *ONE_STEP, *overrides, f"runs_dir={runs_dir}"])
    metrics = runs_dir / "latest" / "metrics.jsonl"
    while process.poll() is None and not metrics.exists():
        time.sleep(0.05)
    seconds = time.monotonic() - start
    if process.wait() != 0:
        raise SystemExit(process.returncode)
    return seconds


def seconds_of(arguments: list[str]) -> float:
    """Run a command to its end."""
    start = time.monotonic()
    subprocess.run([COMMAND, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start


def main(rounds: Annotated[int, typer.Option(help="How often each is run, in turn.")] = 3) -> None:
    """Time the start of the CPU job, and the commands that start nothing."""
    measured: dict[str, list[float]] = {name: [] for name in (*VARIANTS, *STARTING_NOTHING)}
    for _ in range(rounds):
        for name, overrides in VARIANTS.items():
            with tempfile.TemporaryDirectory() as runs_dir:
                measured[name].append(seconds_to_first_step(overrides, Path(runs_dir)))
        for name, arguments in STARTING_NOTHING.items():
            measured[name].append(seconds_of(arguments))
    medians = {name: statistics.median(seconds) for name, seconds in measured.items()}
    table = Table("median seconds of", *measured, "forked/imported")
    row = [f"{medians[name]:.1f}" for name in measured]
    table.add_row(f"{rounds} rounds", *row, f"{medians['forked'] / medians['imported']:.2f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
