"""Reads a run folder into arrays, one pair (steps, values) per metric.

metrics.jsonl, config.yaml and summary.json say all of it. What one of them has lost is taken from the attempts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reinforcepp_verl.common.json_text import read_object
from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.config import config_file, keys
from reinforcepp_verl.report.metric_series import Columns, Curve
from reinforcepp_verl.report.run_records import last_step, metrics_record, recorded


@dataclass(frozen=True, eq=False)
class History:
    """Metrics of one run: `series[metric] == (steps, values)`, steps strictly increasing, values may be NaN."""

    path: Path
    name: str
    seed: int | None
    series: dict[str, Curve]


def load_history(run: Path, wanted: Callable[[str], bool] = lambda name: True) -> History:
    """Read the `wanted` metrics of the run folder `run`, all by default; symlinks such as runs/latest are followed.

    Raises:
        ValueError: there are none, or a file is damaged and no other has its contents; the message has the fix
    """
    folder = RunFolder(run.resolve())
    if not folder.path.is_dir():
        raise ValueError(f"{run}: no such run folder; give the folder of a run, for example runs/latest")
    series = _series(folder, wanted)
    if series is None:
        raise ValueError(f"{run}: no metrics.jsonl in it; give the folder of a run that has started training")
    return History(folder.path, _experiment_name(folder), _seed(folder), series)


def _series(run: RunFolder, wanted: Callable[[str], bool]) -> dict[str, Curve] | None:
    columns, damage = Columns(wanted), None
    if run.metrics.is_file():
        damage = _read(run.metrics, columns)
        if damage is None and columns.is_contiguous and columns.last_step >= last_step(run):
            return columns.curves()
    merged = Columns(wanted)
    for _, record in sorted(recorded(run, wanted=wanted).items()):
        merged.add(record)
    attempts = run.attempts()
    if damage is not None and not (attempts and attempts[0].number == 1 and merged.is_contiguous):
        raise ValueError(damage)
    return merged.curves() if attempts or run.metrics.is_file() else None


def _read(path: Path, columns: Columns) -> str | None:
    """Add the records of metrics.jsonl; return what is wrong with the first damaged line, None without one."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                columns.add(metrics_record(line))
            except ValueError as error:
                if line.endswith(b"\n"):
                    return f"{path}, line {number}: {error}; repair or delete that line"
                # The run is still writing it, or was killed meanwhile.
    return None


def _experiment_name(run: RunFolder) -> str:
    return str(config_file.first_value(run.configs(), keys.EXPERIMENT_NAME) or run.path.name)


def _seed(run: RunFolder) -> int | None:
    seed = damage = None
    try:
        seed = read_object(run.summary).get("seed") if run.summary.is_file() else None
    except ValueError as error:
        damage = error
    if seed is None:
        seed = config_file.first_value(run.configs(), keys.SEED)
    if seed is None and damage is not None:
        raise ValueError(f"{damage}; delete it") from damage
    return seed if isinstance(seed, int) else None
