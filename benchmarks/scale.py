"""What grows with the number of answers: the work of the one driver process in a step, its queue, workers, the check.

    reinforcepp prepare arithmetic
    python benchmarks/scale.py
    python benchmarks/scale.py --large 16384 8000 --plot docs/scale.png    # 24 GB of main memory

Batches of 1, 10 and 100 times the CPU job (96 answers of up to 8 tokens), and `--large`. Every line is a process of
its own. `advantages`: our trainer's step from the ragged rows to the ragged advantages, `verl`: verl's trainer with
reinforce_plus_plus, both with a KL in the reward and with the rows in memory. `metrics`: what verl's trainer logs of a
step, the same for both. `memory`: growth of the peak resident set over the size of the rows. Saves are those of small
shards (helpers/save_files.py). Rewards and the contents of saves have their own benchmarks: verifier_speed.py, save.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import matplotlib.pyplot as plt
import pandas as pd
import typer
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

HELPERS = Path(__file__).parent / "helpers"
COMMAND = str(Path(sys.executable).with_name("reinforcepp"))
RECIPE = "+recipe=math_rlvr/arithmetic"
CPU_JOB, TIMES = (96, 8), (1, 10, 100)
STEP_PARTS = ("ours", "verl", "metrics")
QUEUES = ("plain", "authenticated")
JOB_SIZES = (8, 64, 512)
SAVE_PARTS = ("listed", "verified", "described", "renamed", "pruned", "found", "verl")
COLORS = {"ours": "tab:blue", "verl": "tab:orange", "metrics": "tab:gray"}


def result_of(helper: str, *arguments: object) -> dict[str, Any]:
    """Run a helper in a process of its own and return what it prints."""
    command = [sys.executable, str(HELPERS / helper), *map(str, arguments)]
    environment = {**os.environ, "VERL_PLATFORM": "cpu", "REINFORCEPP_AUTHENTICATED": "1"}
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{process.stderr}")
    return json.loads(process.stdout.splitlines()[-1])


def seconds_of_check(*, times: int = 1, workers: int = 8) -> tuple[int, float]:
    """Check a recipe with `times` the rows of the CPU job's data for so many workers; return rows and seconds."""
    rows = pd.concat([pd.read_parquet("data/arithmetic/train.parquet")] * times)
    job = ["trainer.n_gpus_per_node=8", f"trainer.nnodes={workers // 8}", "data.train_batch_size=512"]
    job += ["actor_rollout_ref.actor.ppo_mini_batch_size=512"]
    with tempfile.TemporaryDirectory() as folder:
        rows.to_parquet(f"{folder}/train.parquet")
        started = time.perf_counter()
        subprocess.run(
            [COMMAND, "check", RECIPE, f"data.train_files={folder}/train.parquet", *job],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        return len(rows), time.perf_counter() - started


def table(title: str, *columns: str) -> Table:
    made = Table(*columns, title=title, title_justify="left", box=box.SIMPLE)
    for column in made.columns[1:]:
        column.justify = "right"
    return made


def step_table(batches: Sequence[tuple[int, int]], found: dict[str, list[dict[str, Any]]]) -> Table:
    columns = ["answers x tokens", "GB", "ours s", "verl s", "verl/ours", "metrics s", "ours memory", "verl memory"]
    made = table("Driver, per step", *columns)
    for number, (answers, tokens) in enumerate(batches):
        ours, verl, metrics = (found[part][number] for part in STEP_PARTS)
        numbers = [ours["gb"], ours["seconds"], verl["seconds"], verl["seconds"] / ours["seconds"]]
        numbers += [metrics["seconds"], ours["memory"], verl["memory"]]
        made.add_row(f"{answers} x {tokens}", *(f"{value:.3g}" for value in numbers))
    return made


def queue_table(batches: Sequence[tuple[int, int]], found: dict[str, list[dict[str, Any]]]) -> Table:
    made = table(
        "TransferQueue, one column of floats, MB/s",
        "answers x tokens",
        *(f"{k} {d}" for k in QUEUES for d in ("write", "read")),
    )
    for number, (answers, tokens) in enumerate(batches):
        speeds = [found[kind][number][direction] for kind in QUEUES for direction in ("write", "read")]
        made.add_row(f"{answers} x {tokens}", *(f"{speed:.3g}" for speed in speeds))
    return made


def save_table(saves: dict[int, dict[str, float]]) -> Table:
    made = table("A save of small shards, s", "workers", "files", *SAVE_PARTS)
    for workers, save in saves.items():
        made.add_row(str(workers), str(save["files"]), *(f"{save[part]:.2g}" for part in SAVE_PARTS))
    return made


def draw(batches: Sequence[tuple[int, int]], found: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Plot seconds over tokens of a step, both on logarithmic axes."""
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    tokens = [answers * length for answers, length in batches]
    labels = {"ours": "advantages, reinforcepp", "verl": "advantages, verl", "metrics": "metrics, verl"}
    for part in STEP_PARTS:
        seconds = [result["seconds"] for result in found[part]]
        axes.loglog(tokens, seconds, "o-", color=COLORS[part], label=labels[part])
    axes.set(xlabel="answers x longest answer (tokens)", ylabel="seconds per step on the driver")
    axes.grid(which="major", alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main(
    large: Annotated[tuple[int, int], typer.Option(help="Answers and tokens of the large batch.")] = (1024, 8000),
    workers: Annotated[
        list[int] | None, typer.Option(help="Numbers of workers to start; 1, 2 and 4 by default.")
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write the numbers to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw the step to this file.")] = None,
) -> None:
    """Measure what grows with the number of answers."""
    batches = [*((CPU_JOB[0] * times, CPU_JOB[1]) for times in TIMES), large]
    transfers = [*batches[:-1], (256, 8000)]
    console = Console(width=120)
    jobs = [("driver_step.py", part, batch) for part in STEP_PARTS for batch in batches]
    jobs += [("queue_traffic.py", kind, batch) for kind in QUEUES for batch in transfers]
    found: dict[str, list[dict[str, Any]]] = {part: [] for part in (*STEP_PARTS, *QUEUES)}
    for helper, part, batch in track(jobs, "measuring", console=Console(stderr=True)):
        found[part].append(result_of(helper, part, *batch))
    starts = {count: result_of("worker_start.py", count) for count in workers or (1, 2, 4)}
    saves = {size: result_of("save_files.py", size) for size in JOB_SIZES}
    checks = [(8, *seconds_of_check(times=times)) for times in TIMES]
    checks += [(size, *seconds_of_check(workers=size)) for size in JOB_SIZES[1:]]
    console.print(step_table(batches, found))
    console.print(queue_table(transfers, found))
    started = table("Start of workers, s", "workers", "created", "all answer")
    for count, seconds in starts.items():
        started.add_row(str(count), f"{seconds['created']:.1f}", f"{seconds['answered']:.1f}")
    checked = table("reinforcepp check, s", "workers", "rows of data", "seconds")
    for size, rows, seconds in checks:
        checked.add_row(str(size), str(rows), f"{seconds:.1f}")
    console.print(started, save_table(saves), checked)
    if plot is not None:
        draw(batches, found, plot)
    if json_path is not None:
        numbers = {"batches": batches, "transfers": transfers, "step": found, "workers": starts}
        numbers |= {"saves": saves, "check": checks}
        json_path.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
