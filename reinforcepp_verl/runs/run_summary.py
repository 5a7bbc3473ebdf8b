"""summary.json: the status and key figures of a run."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reinforcepp_verl.common import durable
from reinforcepp_verl.common.json_text import read_object
from reinforcepp_verl.config.reading import is_number
from reinforcepp_verl.report.validation_metric import validation_key
from reinforcepp_verl.runs.running_median import RunningMedian


def read_summary(path: Path) -> dict[str, Any]:
    """Return the fields of summary.json, {} if it is missing or damaged: its numbers are then counted again."""
    try:
        return read_object(path) if path.is_file() else {}
    except ValueError:
        return {}


def outcome(fields: Mapping[str, Any], wanted_steps: int | None = None) -> str:
    """Return how a run ended or how far it is, in one line; `fields` are those of `Summary`, some may be lost."""
    status, seconds = fields.get("status"), fields.get("seconds")
    if status in ("created", "running"):
        # The time of this attempt is not known yet.
        wanted = f" of {wanted_steps}" if wanted_steps else ""
        return f"{status}: {fields.get('steps')}{wanted} steps{_validation(fields)}"
    time = f" in {seconds:.0f} s" if is_number(seconds) else ""
    return f"{status}: {fields.get('steps')} steps{time}{_validation(fields)}"


def _validation(fields: Mapping[str, Any]) -> str:
    initial, final, best = (fields.get(name) for name in ("initial_val", "final_val", "best_val"))
    if not is_number(final):
        return ""
    before = f"{initial:.3f} -> " if is_number(initial) else ""
    peak = f" (best {best:.3f} at step {fields.get('best_step')})" if is_number(best) and best > final else ""
    return f", validation {before}{final:.3f}{peak}"


@dataclass
class Summary:
    """The fields of summary.json."""

    seed: int
    """The configured `seed`."""
    status: str = "created"
    """`created`, `running`, `finished`, `stopped` (saved on request, can be resumed), `interrupted` or `failed`. A run
    that was killed still says `running`."""
    directory: str = field(default_factory=os.getcwd)
    """The folder in which the run was started: relative paths in its configuration are relative to it."""
    attempts: int = 0
    """Number of starts of the run."""
    steps: int = 0
    """Number of training steps done."""
    seconds: float = 0.0
    """Wall-clock time of all attempts that were not killed, startup included."""
    step_seconds_median: float | None = None
    """Median of verl's `timing_s/step`, without validation."""
    initial_val: float | None = None
    """Validation metric before training, if `trainer.val_before_train`."""
    final_val: float | None = None
    """The last validation metric recorded."""
    best_val: float | None = None
    """The highest validation metric recorded."""
    best_step: int | None = None
    """The first step with that metric."""
    val_metric: str | None = None
    """verl's name for that metric."""
    error: str | None = None
    """Why the run failed."""
    _step_seconds: RunningMedian = field(default_factory=RunningMedian, repr=False)
    _no_validation: set[str] = field(default_factory=set, repr=False)
    """Names of metrics, known not to be those of a validation: comparing whole sets is much faster."""

    def add(self, record: dict[str, Any]) -> None:
        """Add one step's record."""
        self.steps = max(self.steps, record["step"])
        if (seconds := record.get("timing_s/step")) is not None:
            self._step_seconds.add(seconds)
            self.step_seconds_median = self._step_seconds.value
        if record.keys() <= self._no_validation:
            return
        key = validation_key(record)
        if key is None:
            self._no_validation |= record.keys()
        else:
            self.val_metric = key
            self.final_val = record[key]
            if record["step"] == 0:
                self.initial_val = record[key]
            if not math.isnan(record[key]) and (self.best_val is None or record[key] > self.best_val):
                self.best_val, self.best_step = record[key], record["step"]

    @classmethod
    def of(cls, seed: int, records: Iterable[dict[str, Any]], earlier: Path) -> Summary:
        """Summarize the steps of earlier attempts; `earlier` is their summary.json, if there is one."""
        summary = cls(seed=seed)
        for record in records:
            summary.add(record)
        before = read_summary(earlier)
        if is_number(seconds := before.get("seconds")):
            summary.seconds = seconds
        summary.directory = str(before.get("directory") or summary.directory)
        return summary

    def write(self, path: Path) -> None:
        """Write the summary as JSON, atomically, because it may be read at any time."""
        public = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        durable.write(path, (json.dumps(public, indent=2) + "\n").encode())
