"""Reads a run folder (metrics.jsonl, config.yaml, summary.json) into arrays, one pair (steps, values) per metric."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from reinforcepp_verl.config import keys

Curve = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class History:
    """Metrics of one run: `series[metric] == (steps, values)`, steps strictly increasing, values may be NaN."""

    path: Path
    name: str
    seed: int | None
    series: dict[str, Curve]


def load_history(run: Path) -> History:
    """Read the run folder `run` (symlinks such as runs/latest are followed); raise ValueError with the fix if bad."""
    folder = run.resolve()
    metrics = folder / "metrics.jsonl"
    if not folder.is_dir():
        raise ValueError(f"{run}: no such run folder; give the folder of a run, for example runs/latest")
    if not metrics.is_file():
        raise ValueError(f"{run}: no metrics.jsonl in it; give the folder of a run that has started training")
    return History(folder, _experiment_name(folder), _seed(folder), _series(_read_records(metrics)))


def _read_records(path: Path) -> dict[int, dict[str, float]]:
    records: dict[int, dict[str, float]] = {}
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            step, values = _parse(line)
        except ValueError as error:
            if number == len(lines):  # no newline yet: the run is still writing it, or was killed meanwhile
                break
            raise ValueError(f"{path}, line {number}: {error}; repair or delete that line") from error
        _insert(records, step, values)
    return records


def _parse(line: bytes) -> tuple[int, dict[str, float]]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError("not valid JSON") from error
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    step = record.pop("step", None)
    if not isinstance(step, int) or isinstance(step, bool):
        raise ValueError('no integer "step"')
    values = {key: float("nan") if value is None else value for key, value in record.items()}
    return step, {key: float(v) for key, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _insert(records: dict[int, dict[str, float]], step: int, values: dict[str, float]) -> None:
    """Add one record; a step that goes back is a resume from a checkpoint, so later records are replaced."""
    for later in [known for known in records if known > step]:
        del records[later]
    records.setdefault(step, {}).update(values)


def _series(records: dict[int, dict[str, float]]) -> dict[str, Curve]:
    points: dict[str, list[tuple[int, float]]] = {}
    for step, values in records.items():
        for key, value in values.items():
            points.setdefault(key, []).append((step, value))
    return {
        key: (np.array([step for step, _ in pairs], dtype=np.int64), np.array([value for _, value in pairs]))
        for key, pairs in points.items()
    }


def _experiment_name(folder: Path) -> str:
    path = folder / "config.yaml"
    if not path.is_file():
        return folder.name
    try:
        name = OmegaConf.select(OmegaConf.load(path), keys.EXPERIMENT_NAME)
    except (YAMLError, OmegaConfBaseException, OSError) as error:
        raise ValueError(f"{path}: not a readable config ({str(error).splitlines()[0]})") from error
    return str(name) if name else folder.name


def _seed(folder: Path) -> int | None:
    path = folder / "summary.json"
    if not path.is_file():
        return None
    try:
        summary = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON; delete it or run the experiment again") from error
    seed = summary.get("seed") if isinstance(summary, dict) else None
    return seed if isinstance(seed, int) else None
