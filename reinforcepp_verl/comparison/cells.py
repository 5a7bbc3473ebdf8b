"""A cell of a comparison: one method with one seed, its training process and what is kept of it."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil

from reinforcepp_verl.common.run_folder import LATEST
from reinforcepp_verl.comparison import inputs
from reinforcepp_verl.comparison.suite import Suite, SuiteFile
from reinforcepp_verl.comparison.table import Origin
from reinforcepp_verl.config import keys
from reinforcepp_verl.report.history import load_history
from reinforcepp_verl.report.validation_metric import accuracy_by_source, mean_key, validation_key
from reinforcepp_verl.runs import processes, shared_imports

# Settings of every cell: the table keeps what a run folder would.
TRAIN = ["-m", "reinforcepp_verl", "train"]
QUIET = [f"{keys.SAVE_FREQ}=-1", f"{keys.SAMPLES_GROUPS_PER_STEP}=0"]
PACKAGES = ("reinforcepp-verl", "verl", "torch", "ray", "transformers")
GB = 1e9
CONSOLE = "console.log"
MEMORY = "memory_gb"
OF_TIME_AND_MEMORY = ("step_s", "gen_s", "update_s", MEMORY)
# The table's names, and those of metrics.jsonl.
KEPT = {
    "reward": "critic/score/mean",
    "kl": "reinforcepp/kl",
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

    @property
    def inputs(self) -> str:
        """A digest of the data and models that it is trained from."""
        return inputs.digest(tuple(self.suite.overrides_of(self.method)))


@dataclass
class Job:
    """A cell in training."""

    cell: Cell
    runs: Path
    process: subprocess.Popen[bytes]
    earlier: Path | None
    """The run of an earlier command that was stopped or failed, to which `latest` still points at first."""
    peak_gb: float = 0.0

    @property
    def log(self) -> Path:
        return self.runs / CONSOLE

    @property
    def run(self) -> Path | None:
        """The run's folder; None while it has none yet."""
        found = _latest(self.runs)
        return None if found == self.earlier else found

    def steps_done(self) -> int:
        metrics = self.run / "metrics.jsonl" if self.run else None
        return metrics.read_bytes().count(b"\n") if metrics and metrics.is_file() else 0

    def watch_memory(self) -> None:
        """Note the memory of all processes of the run together; pages that they share count in parts."""
        if run := self.run:
            self.peak_gb = max(self.peak_gb, sum(map(_memory, processes.find_all(str(run)))) / GB)


def start(cell: Cell, runs_dir: Path) -> Job:
    """Start the training of a cell, which ends with this process, in folders of its own under `runs_dir`.

    What a killed command has left of the same cell, and is still running, is ended first.
    """
    runs = runs_dir / cell.suite.name / f"{cell.method}_{cell.seed}"
    runs.mkdir(parents=True, exist_ok=True)
    if earlier := _latest(runs):
        processes.terminate_all(str(earlier))
    name = f"{keys.EXPERIMENT_NAME}={cell.method}"
    with (runs / CONSOLE).open("wb") as log:
        process = subprocess.Popen(
            [*shared_imports.python(), *TRAIN, *cell.overrides, *QUIET, name, f"{keys.RUNS_DIR}={runs}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Job(cell, runs, process, earlier)


def curves(job: Job) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return what the table keeps of a finished run: steps and values of each metric.

    Raises:
        ValueError: the run did not reach its last step, or was not validated there
    """
    if job.run is None:
        raise ValueError(f"{job.runs} has no run folder")
    series, steps, measure = load_history(job.run).series, job.cell.suite.file.steps, job.cell.suite.file.measure
    key = validation_key(series) if measure == SuiteFile.measure else mean_key(series, measure)
    if key is None or series[key][0][-1] != steps:
        raise ValueError(f"{job.run} has no {measure} of a validation at step {steps}")
    found = {measure: series[key]}
    if measure == SuiteFile.measure:
        found |= {f"{measure}/{source}": series[name] for source, name in accuracy_by_source(series).items()}
    found |= {name: series[metric] for name, metric in KEPT.items() if metric in series}
    found[MEMORY] = (np.array([steps]), np.array([job.peak_gb]))
    return {name: _finite(curve) for name, curve in found.items()}


def origin(cell: Cell) -> Origin:
    """Return what a cell that ends now was made with."""
    return Origin(
        overrides=" ".join(cell.overrides),
        inputs=cell.inputs,
        versions=", ".join(f"{name} {version(name)}" for name in PACKAGES) + f", Python {platform.python_version()}",
        hardware=f"{len(os.sched_getaffinity(0))} cores of {_processor()}, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d"),
    )


def _latest(runs: Path) -> Path | None:
    return (runs / LATEST).resolve() if (runs / LATEST).is_dir() else None


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
