"""Time and memory of the commands that read run folders, on long runs and on many: plot, report, resume, slurm status.

    python benchmarks/readers.py
    python benchmarks/readers.py --steps 1000 --runs 10

The runs are made up: each record has 100 metrics, every tenth a validation. Each line is a process of its own, and its
numbers include the imports: seconds until it ends, and its peak resident set. An empty process that imports the same
is the lower bound. `plot` draws a run, also one whose metrics.jsonl is lost; `report` makes a page of it; `resume`
reads the records of all attempts and sums them up, as it does before the training starts; `summary` adds them one by
one, as a run does; `slurm status` lists runs of 100 steps; `--array` is refused for more seeds than a job can have.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from omegaconf import OmegaConf
from rich import box
from rich.console import Console
from rich.table import Table

from reinforcepp_verl.config import schema

RECIPE = "+recipe=math_rlvr/arithmetic"
NAMED = (
    *("critic/score/mean", "actor/reward_kl_penalty", "actor/pg_loss", "response_length/mean", "actor/entropy"),
    *("actor/lr", "perf/total_num_tokens", "timing_s/step", "training/global_step"),
)
METRICS = (*NAMED, *(f"other/metric_{number:03}/mean" for number in range(100 - len(NAMED))))
VALIDATION = "val-core/reinforcepp/arithmetic/acc/mean@1"
COMMAND = (str(Path(sys.executable).with_name("reinforcepp")),)

IMPORTS = """
import reinforcepp_verl.report.curves, reinforcepp_verl.report.run_records, reinforcepp_verl.runs.run_summary
"""
RESUME = """
import sys
from pathlib import Path
from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.report.run_records import recorded
from reinforcepp_verl.runs.run_summary import Summary
Summary.of(1, recorded(RunFolder(Path(sys.argv[1]))).values(), Path("none"))
"""
SUMMARY = """
import random, sys
from reinforcepp_verl.runs.run_summary import Summary
summary, record = Summary(seed=1), {f"other/metric_{number:03}/mean": 0.5 for number in range(100)}
for step in range(int(sys.argv[1])):
    summary.add({**record, "step": step, "timing_s/step": random.random()})
"""


def values(step: int) -> dict[str, float]:
    """Return made-up metrics of a step."""
    source = random.Random(step)
    validation = {VALIDATION: source.random()} if step % 10 == 0 else {}
    return {name: source.random() for name in METRICS} | validation


def make_run(run: Path, steps: int, config: str) -> Path:
    """Write the folder of a run that was submitted to Slurm and has one attempt."""
    attempt = run / "attempt_1"
    for folder in (attempt, run / "slurm" / "attempt_1"):
        folder.mkdir(parents=True)
    for file in (run / "config.yaml", attempt / "config.yaml"):
        file.write_text(config)
    (run / "summary.json").write_text(json.dumps({"seed": 1, "status": "running", "steps": steps}))
    (run / "slurm" / "job_id").write_text("1\n")
    with (run / "metrics.jsonl").open("w") as metrics, (attempt / "verl_metrics.jsonl").open("w") as tracker:
        for step in range(1, steps + 1):
            data = values(step)
            metrics.write(json.dumps({"step": step, **data}) + "\n")
            tracker.write(json.dumps({"step": step, "data": data}) + "\n")
    return run


def measure(*command: str | Path) -> tuple[float, float, int]:
    """Run a command and return its seconds, its peak memory in MB and its exit code."""
    started = time.perf_counter()
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return time.perf_counter() - started, usage.ru_maxrss / 1000, process.returncode


def main(
    steps: Annotated[int, typer.Option(help="Steps of the long run.")] = 100_000,
    runs: Annotated[int, typer.Option(help="Number of short runs.")] = 500,
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write the numbers to this file.")] = None,
) -> None:
    """Measure the commands that read run folders."""
    python = (sys.executable, "-c")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        config = OmegaConf.to_yaml(schema.compose_base(RECIPE), resolve=True)
        long = make_run(root / "long" / "run", steps, config)
        lost = make_run(root / "lost" / "run", steps, config)
        (lost / "metrics.jsonl").unlink()
        for number in range(runs):
            make_run(root / "many" / f"run_{number}", 100, config)
        cases = {
            "imports alone": (*python, IMPORTS),
            f"plot, {steps} steps": (*COMMAND, "plot", long),
            f"plot, {steps} steps, metrics.jsonl lost": (*COMMAND, "plot", lost),
            f"report, {steps} steps": (*COMMAND, "report", long),
            f"summary, {steps} steps": (*python, SUMMARY, str(steps)),
            f"resume, {steps} steps": (*python, RESUME, long),
            f"slurm status, {runs} runs": (*COMMAND, "slurm", "status", root / "many"),
            "slurm submit --array 1-3000000": (*COMMAND, "slurm", "submit", RECIPE, "--array", "1-3000000"),
        }
        measured = {name: measure(*command) for name, command in cases.items()}
    table = Table("", "seconds", "MB", "exit code", box=box.SIMPLE_HEAD)
    for name, (seconds, megabytes, code) in measured.items():
        table.add_row(name, f"{seconds:.1f}", f"{megabytes:.0f}", str(code))
    Console(width=100).print(table)
    if json_path is not None:
        json_path.write_text(json.dumps(measured, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
