"""Where the time of a step goes, by phase, from verl's timers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from reinforcepp_verl.report.history import History

STEP = "timing_s/step"
PHASES = {
    "timing_s/gen": "generation",
    "timing_s/reward": "reward model",
    "timing_s/old_log_prob": "log-probs of the policy",
    "timing_s/ref": "log-probs of the reference",
    "timing_s/values": "values of the critic",
    "timing_s/adv": "advantages",
    "timing_s/update_critic": "update of the critic",
    "timing_s/update_actor": "update of the policy",
    "timing_s/update_weights": "weights to the engine",
    "timing_s/save_checkpoint": "checkpoint",
}
REST = "everything else"
COLORS = {name: color for color, name in enumerate((*PHASES.values(), REST))}
VALIDATION = "timing_s/testing"
MOST_COLUMNS = 120


def is_timer(name: str) -> bool:
    """Return True for the timers that are read."""
    return name in (STEP, VALIDATION) or name in PHASES


@dataclass(frozen=True)
class Phase:
    """Time of one phase: the median over the steps that have it, and its share of all steps' time."""

    name: str
    color: int
    median_s: float
    share: float


@dataclass(frozen=True)
class StepTime:
    """Seconds of each phase `(phases, steps)`; they add up to those of the steps."""

    steps: np.ndarray
    names: list[str]
    seconds: np.ndarray
    validation_s: float | None
    """Median of a validation, which is not part of a step."""

    @property
    def table(self) -> list[Phase]:
        total = self.seconds.sum()
        return [
            Phase(name, COLORS[name], float(np.median(row[row > 0])), float(row.sum() / total))
            for name, row in zip(self.names, self.seconds, strict=True)
        ]

    @property
    def chart(self) -> dict[str, Any]:
        """Columns of neighboring steps, each with their mean."""
        size = -(-len(self.steps) // MOST_COLUMNS)
        starts = np.arange(0, len(self.steps), size)
        counts = np.diff([*starts, len(self.steps)])
        means = np.add.reduceat(self.seconds, starts, axis=1) / counts
        colors = [COLORS[name] for name in self.names]
        columns = {"x": self.steps[starts], "last": self.steps[-1], "y": list(means)}
        return {"names": self.names, "colors": colors, **columns}


def step_time(run: History) -> StepTime | None:
    """Return the time of a run's steps; None if it has recorded none."""
    steps, total = _recorded(run, STEP)
    if not steps.size or not total.sum() > 0:
        return None
    rows = {label: _at(run, name, steps) for name, label in PHASES.items()}
    rows[REST] = np.clip(total - sum(rows.values()), 0, None)
    rows = {name: row for name, row in rows.items() if row.any()}
    _, validations = _recorded(run, VALIDATION)
    median = float(np.median(validations)) if validations.size else None
    return StepTime(steps, list(rows), np.stack(list(rows.values())), median)


def _recorded(run: History, name: str) -> tuple[np.ndarray, np.ndarray]:
    steps, values = run.series.get(name, (np.array([], np.int64), np.array([])))
    finite = np.isfinite(values)
    return steps[finite], values[finite]


def _at(run: History, name: str, steps: np.ndarray) -> np.ndarray:
    """Return the timer at `steps`, 0 where it was not recorded."""
    own, values = _recorded(run, name)
    row = np.zeros(len(steps))
    _, here, there = np.intersect1d(steps, own, return_indices=True)
    row[here] = values[there]
    return row
