"""What grows with the size of a job: the work of the one driver process in a step, its queue, workers, saves, checks.

    reinforcepp prepare arithmetic
    python benchmarks/scale.py
    python benchmarks/scale.py --large 16384 8000 --plot docs/scale.png    # 24 GB of main memory

Batches of 1, 10 and 100 times the CPU job (96 answers of up to 8 tokens), and `--large`. Every line is a process of
its own. `advantages`: our trainer's step from the ragged rows to the ragged advantages, `verl`: verl's trainer with
reinforce_plus_plus, both with a KL in the reward and with the rows in memory. `metrics`: what verl's trainer logs of a
step. Ours run with huge pages, as `reinforcepp train` sets them, verl's without, as its own command does. `memory`:
growth of the peak resident set over the size of the rows. Rewards and the contents of saves have their own benchmarks:
verifier_speed.py and save.py.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import matplotlib.pyplot as plt
import pandas as pd
import typer
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from reinforcepp_verl.runs.run_environment import FOR_LARGE_TENSORS

HELPERS = Path(__file__).parent / "helpers"
COMMAND = str(Path(sys.executable).with_name("reinforcepp"))
RECIPE = "+recipe=math_rlvr/arithmetic"
CPU_JOB, TIMES = (96, 8), (1, 10, 100)
STEP_PARTS = {"ours": "ours", "verl": "verl", "metrics, ours": "metrics", "metrics, verl": "metrics"}
"""Argument of driver_step.py for each measured part."""
QUEUES = ("plain", "authenticated")
STARTS = ("ours", "verl")
JOB_SIZES = (8, 64, 512)
COLORS = {"ours": "tab:blue", "verl": "tab:orange"}
SAVE_PARTS = ("listed", "verified", "described", "renamed", "pruned", "found", "verl")


def result_of(helper: str, *arguments: object, variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run a helper in a process of its own and return what it prints."""
    command = [sys.executable, str(HELPERS / helper), *map(str, arguments)]
    environment = {**os.environ, "VERL_PLATFORM": "cpu", "REINFORCEPP_AUTHENTICATED": "1", **(variables or {})}
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
    columns = ["answers x tokens", "GB", "ours s", "verl s", "verl/ours", "metrics, ours s", "metrics, verl s"]
    made = table("Driver, per step", *columns, "ours memory", "verl memory")
    for number, (answers, tokens) in enumerate(batches):
        ours, verl, *metrics = (found[part][number] for part in STEP_PARTS)
        numbers = [ours["gb"], ours["seconds"], verl["seconds"], verl["seconds"] / ours["seconds"]]
        numbers += [*(part["seconds"] for part in metrics), ours["memory"], verl["memory"]]
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


def start_table(starts: dict[str, dict[int, dict[str, float]]]) -> Table:
    made = table(
        "Start of workers, s",
        "workers",
        *(f"{kind} {part}" for kind in STARTS for part in ("created", "answered", "called")),
    )
    for count in starts[STARTS[0]]:
        parts = [starts[kind][count] for kind in STARTS]
        cells = [f"{part[name]:.2g}" for part in parts for name in ("created", "answered", "called")]
        made.add_row(str(count), *cells)
    return made


def save_table(saves: dict[int, dict[str, float]]) -> Table:
    made = table("A save, s", "workers", "files", *SAVE_PARTS)
    for workers, save in saves.items():
        made.add_row(str(workers), str(save["files"]), *(f"{save[part]:.2g}" for part in SAVE_PARTS))
    return made


def draw(numbers: dict[str, Any], path: Path) -> None:
    """Plot the step over its tokens, and starts and saves over workers, on logarithmic axes."""
    figure, (step, workers) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    tokens = [answers * length for answers, length in numbers["batches"]]
    for part in STEP_PARTS:
        seconds = [result["seconds"] for result in numbers["step"][part]]
        kind = part.split()[-1]
        name = f"metrics, {kind}" if part.startswith("metrics") else f"advantages, {kind}"
        step.loglog(tokens, seconds, "o:" if part.startswith("metrics") else "o-", color=COLORS[kind], label=name)
    step.set(xlabel="answers x longest answer (tokens)", ylabel="seconds per step on the driver")
    for kind, counts in numbers["workers"].items():
        for name, line in (("answered", "o-"), ("called", "o:")):
            label = f"{'start' if name == 'answered' else 'call'} of all workers, {kind}"
            workers.loglog(counts, [each[name] for each in counts.values()], line, color=COLORS[kind], label=label)
    saves = numbers["saves"]
    in_background = [save["verified"] for save in saves.values()]
    waits = [sum(save[part] for part in ("listed", "described", "renamed", "pruned")) for save in saves.values()]
    workers.loglog(saves, in_background, "s-", color="tab:gray", label="save, in the background")
    workers.loglog(saves, waits, "s:", color="tab:gray", label="save, training waits")
    workers.set(xlabel="workers", ylabel="seconds")
    for axes in (step, workers):
        axes.grid(which="major", alpha=0.3)
        axes.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=150)


def main(
    large: Annotated[tuple[int, int], typer.Option(help="Answers and tokens of the large batch.")] = (1024, 8000),
    workers: Annotated[
        list[int] | None, typer.Option(help="Numbers of workers to start; 1, 2 and 4 by default.")
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write the numbers to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Also draw them to this file.")] = None,
) -> None:
    """Measure what grows with the size of a job."""
    batches = [*((CPU_JOB[0] * times, CPU_JOB[1]) for times in TIMES), large]
    transfers = [*batches[:-1], (256, 8000)]
    console = Console(width=140)
    found: dict[str, list[dict[str, Any]]] = {part: [] for part in (*STEP_PARTS, *QUEUES)}
    for part, batch in track([*itertools.product(STEP_PARTS, batches)], "steps", console=Console(stderr=True)):
        variables = {} if part.endswith("verl") else FOR_LARGE_TENSORS
        found[part].append(result_of("driver_step.py", STEP_PARTS[part], *batch, variables=variables))
    for kind, batch in itertools.product(QUEUES, transfers):
        found[kind].append(result_of("queue_traffic.py", kind, *batch))
    counts = workers or (1, 2, 4)
    starts = {kind: {count: result_of("worker_start.py", kind, count) for count in counts} for kind in STARTS}
    saves = {size: result_of("save_files.py", size) for size in JOB_SIZES}
    checks = [(8, *seconds_of_check(times=times)) for times in TIMES]
    checks += [(size, *seconds_of_check(workers=size)) for size in JOB_SIZES[1:]]
    checked = table("reinforcepp check, s", "workers", "rows of data", "seconds")
    for count, rows, seconds in checks:
        checked.add_row(str(count), str(rows), f"{seconds:.1f}")
    console.print(step_table(batches, found), queue_table(transfers, found), start_table(starts), save_table(saves))
    console.print(checked)
    numbers = {"batches": batches, "transfers": transfers, "step": found, "workers": starts, "saves": saves}
    numbers |= {"check": checks}
    if plot is not None:
        draw(numbers, plot)
    if json_path is not None:
        json_path.write_text(json.dumps(numbers, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
