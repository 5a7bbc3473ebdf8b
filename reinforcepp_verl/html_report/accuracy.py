"""Accuracy of each validation: the mean and pass@k per data source, with the intervals of `reinforcepp eval`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from reinforcepp_verl.evaluation.accuracy_report import MEAN, default_ks
from reinforcepp_verl.evaluation.estimates import BootstrapEstimate, bootstrap, mean_at_k, pass_at_k
from reinforcepp_verl.evaluation.generations import DataSource, read_generations
from reinforcepp_verl.html_report.answers import validation_files
from reinforcepp_verl.html_report.charts import Chart, Line, chart, line
from reinforcepp_verl.html_report.chosen_steps import spread
from reinforcepp_verl.html_report.run_contents import RunContents

RESAMPLES, SEED = 2000, 1
Estimates = dict[tuple[str, str], BootstrapEstimate]
"""By data source and metric."""


@dataclass(frozen=True)
class Accuracy:
    """The estimates of a run's validations, by step."""

    run: RunContents
    color: int
    steps: dict[int, Estimates]

    @property
    def best(self) -> dict[tuple[str, str], int]:
        """The first step with the highest value, by data source and metric."""
        keys = dict.fromkeys(key for estimates in self.steps.values() for key in estimates)
        have = {key: [step for step, estimates in self.steps.items() if key in estimates] for key in keys}
        return {key: max(steps, key=lambda step: self.steps[step][key].value) for key, steps in have.items()}


def accuracy_of(run: RunContents, color: int, most_steps: int) -> tuple[Accuracy, str | None]:
    """Return the accuracy at up to `most_steps` validations, and why there is none of some."""
    files, found, reason = validation_files(run.folder), {}, None
    for step in spread(list(files), most_steps):
        try:
            found[step] = _estimates(files[step], files[step].stat().st_mtime_ns)
        except (ValueError, OSError) as error:
            reason = reason or str(error)
    return Accuracy(run, color, found), reason


@lru_cache(maxsize=512)  # --follow asks again for the validations that it has seen
def _estimates(file: Path, changed_ns: int) -> Estimates:
    return {
        (source.name, name): bootstrap(values, resamples=RESAMPLES, seed=SEED)
        for source in read_generations(file).data_sources
        for name, values in _values(source).items()
    }


def _values(source: DataSource) -> dict[str, np.ndarray]:
    fewest, _ = source.samples
    ks = default_ks(fewest) if fewest > 1 else ()
    return {MEAN: mean_at_k(source.correct)} | {f"pass@{k}": pass_at_k(source.correct, k) for k in ks}


def accuracy_charts(found: Sequence[Accuracy]) -> list[Chart]:
    """Return a chart per data source and metric with a line per run; of a single run one per data source."""
    keys = dict.fromkeys(key for accuracy in found for estimates in accuracy.steps.values() for key in estimates)
    if len(found) == 1:
        sources = dict.fromkeys(source for source, _ in keys)
        return [
            chart(
                source,
                (),
                [_line(found[0], key, key[1], color) for color, key in enumerate(_of(source, keys))],
                legend=True,
            )
            for source in sources
        ]
    return [
        chart(f"{name}, {source}", (), [_line(each, (source, name), each.run.name, each.color) for each in found])
        for source, name in keys
    ]


def _of(source: str, keys: dict[tuple[str, str], None]) -> list[tuple[str, str]]:
    return [key for key in keys if key[0] == source]


def _line(accuracy: Accuracy, key: tuple[str, str], label: str, color: int) -> Line:
    have = {step: estimates[key] for step, estimates in accuracy.steps.items() if key in estimates}
    steps = np.array(list(have), dtype=np.int64)
    value, low, high = (np.array([getattr(e, name) for e in have.values()]) for name in ("value", "low", "high"))
    return line(label, color, steps, value, (low, high), dots=True)
