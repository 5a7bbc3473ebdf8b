"""Which runs are compared and which are seeds of one experiment: one color and one legend entry for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from reinforcepp_verl.report.history import History
from reinforcepp_verl.report.metric_series import Curve


@dataclass(frozen=True)
class Group:
    """Runs that share a color and a legend entry: a single run, or the seeds of one experiment."""

    label: str
    members: tuple[History, ...]


def group_runs(histories: Sequence[History]) -> list[Group]:
    """Group the seeds of one experiment; a run with an unknown or repeated seed forms its own group."""
    names: dict[str, list[History]] = {}
    for history in histories:
        names.setdefault(history.name, []).append(history)
    return [group for name, runs in names.items() for group in _split(name, runs)]


def _split(name: str, runs: list[History]) -> list[Group]:
    counts = Counter(run.seed for run in runs)
    seeds = tuple(run for run in runs if run.seed is not None and counts[run.seed] == 1)
    if len(seeds) < 2:
        seeds = ()
    banded = [Group(f"{name} (mean of {len(seeds)} seeds, band: min to max)", seeds)] if seeds else []
    alone = [run for run in runs if run not in seeds]
    return banded + [Group(name if len(runs) == 1 else f"{name} ({run.path.name})", (run,)) for run in alone]


def stacked(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the steps that all seeds have and the values of each, `(seeds, steps)`; None without several seeds.

    A mean ends with the shortest seed: a mean over fewer seeds would jump there.
    """
    shared = reduce(np.intersect1d, [steps for steps, _ in curves]) if len(curves) > 1 else np.array([])
    if not shared.size:
        return None
    return shared, np.stack([values[np.isin(steps, shared)] for steps, values in curves])
