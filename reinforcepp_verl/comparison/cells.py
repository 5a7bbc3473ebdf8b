"""A cell of a comparison: one method with one seed, its training process and what is kept of it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil

from reinforcepp_verl.common.run_folder import LATEST
from reinforcepp_verl.comparison.suite import Suite
from reinforcepp_verl.comparison.table import Origin
from reinforcepp_verl.report.history import load_history
from reinforcepp_verl.report.validation_metric import validation_key
from reinforcepp_verl.runs import processes

# Settings of every cell: the table keeps what a run folder would.
QUIET = ["trainer.save_freq=-1", "samples.groups_per_step=0"]
PACKAGES = ("reinforcepp-verl", "verl", "torch", "ray", "transformers")
GB = 1e9
ACCURACY, MEMORY = "accuracy", "memory_gb"
# The table's names, and verl's. A metric that a method does not have is left out.
KEPT = {
    "reward": "critic/score/mean",
    "kl": "actor/reward_kl_penalty",
    "kl_loss": "actor/kl_loss",
    "length": "response_length/mean",
    "entropy": "actor/entropy",
    "grad_norm": "actor/grad_norm",
    "clip_fraction": "actor/pg_clipfrac",
    "advantage_std": "reinforcepp/raw_advantage/std",
    "zero_signal_groups": "reinforcepp/zero_signal_groups",
    "step_s": "timing_s/step",
    "gen_s": "timing_s/gen",
    "update_s": "timing_s/update_actor",
    "tokens": "perf/total_num_tokens",
}


@dataclass(frozen=True)
class Cell:
    """A method and a seed of a suite."""

    suite: Suite
    method: str
    seed: int

    @property
    def label(self) -> str:
        return f"{self.method} seed {self.seed}"

    @property
    def overrides(self) -> list[str]:
        return [*self.suite.overrides_of(self.method), f"seed={self.seed}"]


@dataclass
class Job:
    """A cell in training."""

    cell: Cell
    runs: Path
    process: subprocess.Popen[bytes]
    peak_gb: float = 0.0
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.runs / "console.log"

    @property
    def run(self) -> Path:
        return self.runs / LATEST

    def steps_done(self) -> int:
        metrics = self.run / "metrics.jsonl"
        return metrics.read_bytes().count(b"\n") if metrics.is_file() else 0

    def watch_memory(self) -> None:
        """Note the memory of all processes of the run together, each shared page counted once."""
        if self.run.is_dir():
            self.peak_gb = max(self.peak_gb, sum(map(_memory, processes.find_all(str(self.run.resolve())))) / GB)


def start(cell: Cell, runs_dir: Path) -> Job:
    """Start the training of a cell in folders of its own under `runs_dir`."""
    runs = runs_dir / cell.suite.name / f"{cell.method}_{cell.seed}"
    runs.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "reinforcepp_verl.comparison.cell_process", str(os.getpid())]
    name = f"trainer.experiment_name={cell.method}"
    with (runs / "console.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *cell.overrides, *QUIET, name, f"runs_dir={runs}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Job(cell, runs, process)


def curves(job: Job) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return what the table keeps of a finished run: steps and values of each metric.

    Raises:
        ValueError: the run did not reach its last step, or was not validated there
    """
    history = load_history(job.run)
    steps = job.cell.suite.file.steps
    key = validation_key(history.series)
    if key is None or history.series[key][0][-1] != steps:
        raise ValueError(f"{job.run.resolve()} has no validation at step {steps}")
    found = {ACCURACY: history.series[key]}
    found |= {name: history.series[metric] for name, metric in KEPT.items() if metric in history.series}
    found[MEMORY] = (np.array([steps]), np.array([job.peak_gb]))
    return {name: _finite(curve) for name, curve in found.items()}


def origin(cell: Cell) -> Origin:
    """Return what a cell that ends now was made with."""
    return Origin(
        overrides=" ".join(cell.overrides),
        versions=", ".join(f"{name} {version(name)}" for name in PACKAGES) + f", Python {platform.python_version()}",
        hardware=f"{len(os.sched_getaffinity(0))} cores of {_processor()}, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d"),
    )


def _finite(curve: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    steps, values = curve
    return steps[np.isfinite(values)], values[np.isfinite(values)]


def _memory(process: psutil.Process) -> float:
    try:
        return float(process.memory_full_info().pss)
    except psutil.Error:
        # It has ended meanwhile.
        return 0.0


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
