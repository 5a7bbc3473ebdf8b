"""Trains the cells of a suite that its table does not have yet, a few at a time."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from reinforcepp_verl.common.hardware import cpu_platform_wanted
from reinforcepp_verl.common.terminal import say
from reinforcepp_verl.comparison import cells, table
from reinforcepp_verl.comparison import suite as suites
from reinforcepp_verl.comparison.cells import Cell, Job
from reinforcepp_verl.comparison.suite import Suite
from reinforcepp_verl.integration.cpu.environment import compute_as_elsewhere
from reinforcepp_verl.runs import processes, shared_imports

POLL_S = 2.0
# Reading the memory of some twenty processes takes a tenth of a second.
MEMORY_S = 10.0
# A stopped training finishes its step first.
STOP_S = 120.0


@dataclass(frozen=True)
class Plan:
    """The cells of a comparison that are still to be trained, and how many are in the table."""

    todo: list[Cell]
    done: int


def plan(suite: Suite, methods: Sequence[str], seeds: Sequence[int], results: Path) -> Plan:
    """Return what is to be trained, seed by seed, so that a comparison that is stopped has whole seeds.

    Raises:
        ValueError: a method is not in the suite, or the table has cells with other settings, data or models, also of
            another method
    """
    if unknown := [method for method in methods if method not in suite.file.methods]:
        known = ", ".join(suite.file.methods)
        raise ValueError(f"{suite.name} has no method {', '.join(unknown)}: it has {known}; add it to the suite's file")
    rows = table.read(results, suite.name)
    finished = table.finished(rows)
    wanted = [Cell(suite, method, seed) for seed in seeds for method in methods]
    todo = [cell for cell in wanted if (cell.method, cell.seed) not in finished]
    if problem := _settings_problem(suite, rows) or (_inputs_problem(suite, rows) if todo else None):
        raise ValueError(f"{table.path_of(results, suite.name)} has {problem}")
    return Plan(todo, len(wanted) - len(todo))


def _settings_problem(suite: Suite, rows: pd.DataFrame) -> str | None:
    finished = table.finished(rows)
    for (method, seed), (overrides, _) in finished.items():
        if overrides != _overrides(suite, method, seed):
            return (
                f"cells with other settings, such as {method} seed {seed} ({overrides}); move the file away, or give "
                "the suite's file another name"
            )
    if finished and not table.has(rows, suite.file.measure):
        return (
            f"no {suite.file.measure}, which the suite measures now; move the file away, or give the suite's file "
            "another name"
        )
    return None


def _inputs_problem(suite: Suite, rows: pd.DataFrame) -> str | None:
    for (method, seed), (_, inputs) in table.finished(rows).items():
        if inputs != Cell(suite, method, seed).inputs:
            return (
                f"cells from other data or another model, such as {method} seed {seed}; prepare the task with the "
                "versions in the column `versions`, or move the file away"
            )
    return None


def take(todo: Sequence[Cell], results: Path) -> list[Cell]:
    """Copy the cells that another suite's table has, with the same overrides and inputs; return those that are left.

    Their times and memory are not copied: what else the machine did then, or which machine it was, is not known.
    """
    left = []
    others = [other.name for other in suites.with_table(results) if todo and other.name != todo[0].suite.name]
    known = table.cells_of(results, others)
    for cell in todo:
        made = [rows for rows in known.get(" ".join(cell.overrides), []) if rows.inputs.iloc[0] == cell.inputs]
        usable = [rows for rows in made if table.has(rows, cell.suite.file.measure)]
        if usable:
            name = cell.suite.name
            rows = usable[0][~usable[0].metric.isin(cells.OF_TIME_AND_MEMORY)]
            table.add(results, name, rows.assign(suite=name, method=cell.method, seed=cell.seed))
        else:
            left.append(cell)
    return left


def _overrides(suite: Suite, method: str, seed: int) -> str | None:
    return " ".join(Cell(suite, method, seed).overrides) if method in suite.file.methods else None


def jobs_that_fit(suite: Suite) -> int:
    """Return how many cells this machine trains at a time, by its cores and its free memory; one on a GPU."""
    if suite.file.cluster != "cpu":
        return 1
    by_memory = int(psutil.virtual_memory().available / 1e9 // suite.file.memory_gb)
    return max(1, min(len(os.sched_getaffinity(0)), by_memory))


@contextmanager
def only_writer(folder: Path, suite: Suite) -> Iterator[None]:
    """Refuse a second command that compares the same suite, with its table or its trainings in this folder.

    Raises:
        ValueError: there is one
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{suite.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"another command is comparing {suite.name} in {folder}: wait until it ends") from None
        yield


def train(todo: Sequence[Cell], results: Path, runs_dir: Path, at_a_time: int, console: Console) -> list[Job]:
    """Train the cells; each is added to the table as it ends. Return the jobs that failed.

    Ctrl-C and SIGTERM stop the trainings and end the command; the next one trains the stopped cells again.
    """
    if not todo:
        return []
    with _imports(todo[0].suite, runs_dir):
        return _train(todo, results, runs_dir, at_a_time, console)


@contextmanager
def _imports(suite: Suite, runs_dir: Path) -> Iterator[None]:
    """On a CPU, import torch and vLLM once for all cells, and compute what other processors do."""
    if suite.file.cluster != "cpu" or not cpu_platform_wanted():
        yield
        return
    compute_as_elsewhere()
    folder = runs_dir / suite.name
    folder.mkdir(parents=True, exist_ok=True)
    with shared_imports.started(folder / "imports.log"):
        yield


def _train(todo: Sequence[Cell], results: Path, runs_dir: Path, at_a_time: int, console: Console) -> list[Job]:
    waiting, running, failed = deque(todo), list[Job](), list[Job]()
    progress = _progress(console)
    steps, next_look = todo[0].suite.file.steps, 0.0
    total = progress.add_task("all", total=steps * len(todo), cells=f"0/{len(todo)} cells")
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with progress:
            while waiting or running:
                while waiting and len(running) < at_a_time:
                    running.append(cells.start(waiting.popleft(), runs_dir))
                time.sleep(POLL_S)
                if time.monotonic() >= next_look:
                    next_look = time.monotonic() + MEMORY_S
                    for job in running:
                        job.watch_memory()
                for job in [job for job in running if job.process.poll() is not None]:
                    running.remove(job)
                    failed += _end(job, results, progress.console)
                ended = len(todo) - len(waiting) - len(running)
                progress.update(
                    total,
                    completed=steps * ended + sum(job.steps_done() for job in running),
                    cells=f"{ended}/{len(todo)} cells: {', '.join(job.cell.label for job in running)}",
                )
    finally:
        signal.signal(signal.SIGTERM, previous)
        _stop(running)
    return failed


def _end(job: Job, results: Path, console: Console) -> list[Job]:
    """Add a cell to the table and say so; return the job if it has failed."""
    name = f"{job.cell.suite.name}: {job.cell.label}"
    try:
        if job.process.returncode:
            raise ValueError(_last_line(job.log))
        curves = cells.curves(job)
    except ValueError as error:
        say(console, f"{name} failed: {error} (log: {job.log})", style="red")
        return [job]
    suite, method, seed = job.cell.suite.name, job.cell.method, job.cell.seed
    table.add(results, suite, table.cell_rows(suite, method, seed, cells.origin(job.cell), curves))
    measure = job.cell.suite.file.measure
    values = curves[measure][1]
    say(console, f"{name}: {measure} {values[0]:.3f} -> {values[-1]:.3f}")
    return []


def _stop(running: Sequence[Job]) -> None:
    """Let the trainings finish their step; end those at once that take too long."""
    deadline = time.monotonic() + STOP_S
    for job in running:
        job.process.terminate()
    for job in running:
        try:
            job.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            job.process.kill()
            job.process.wait()
            if run := job.run:
                processes.terminate_all(str(run))


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    wrong = [line for line in lines if line.startswith("error")]
    return (wrong or lines or ["it wrote nothing"])[-1]


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _progress(console: Console) -> Progress:
    return Progress(
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("steps,"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
        TextColumn("{task.fields[cells]}", markup=False),
        console=console,
        disable=not console.is_terminal,
    )
