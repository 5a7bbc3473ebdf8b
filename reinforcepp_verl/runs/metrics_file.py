"""Merges verl's file loggers, one per attempt, into metrics.jsonl: one flat JSON object per step, each step once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from omegaconf import OmegaConf

from reinforcepp_verl.common import durable
from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.report.validation_metric import MEAN_OF_SOURCES

Record = dict[str, Any]

_BY_SOURCE = re.compile(r"val-core/.+/((?:acc|reward)/mean@\d+)")


def mean_of_sources(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the unweighted mean of each validation metric over the data sources; {} for a single source."""
    by_kind: dict[str, list[float]] = {}
    for name, value in metrics.items():
        # orjson writes NaN as null.
        if value is not None and (found := _BY_SOURCE.fullmatch(name)):
            by_kind.setdefault(found[1], []).append(value)
    return {f"val-core/{MEAN_OF_SOURCES}/{kind}": fmean(values) for kind, values in by_kind.items() if len(values) > 1}


def flatten(line: bytes) -> Record:
    """Return one line of verl's file logger as `{"step": int, "<verl metric>": number, ...}`.

    With several validation data sources, their mean is added as `val-core/mean_of_sources/...`.
    """
    raw = json.loads(line)
    return {"step": raw["step"], **raw["data"], **mean_of_sources(raw["data"])}


def recorded(run: RunFolder, start: int | None = None) -> dict[int, Record]:
    """Return the records of all attempts of a run, by step, up to the step that a new attempt starts from.

    An attempt replaces all records after its own start. The validation at its start belongs to the step it starts from.
    """
    records: dict[int, Record] = {}
    for attempt in run.attempts():
        if attempt.config.is_file():
            records = _until(start_step(OmegaConf.load(attempt.config)), records)
        for record in _read(attempt.tracker):
            records.setdefault(record["step"], {}).update(record)
    # Attempt folders may have been deleted to save space.
    for step, record in _read_metrics(run.metrics).items():
        records[step] = record | records.get(step, {})
    return records if start is None else _until(start, records)


def start_step(config: Any) -> int:
    """Return the step of the checkpoint that a configuration starts from, 0 without one."""
    trainer = config.trainer
    return int(Path(trainer.resume_from_path).name.rpartition("_")[2]) if trainer.resume_mode == "resume_path" else 0


def _until(step: int, records: dict[int, Record]) -> dict[int, Record]:
    return {number: record for number, record in records.items() if number <= step}


def _read(tracker: Path) -> list[Record]:
    """Read a file of verl's logger; a last line without newline was truncated by a kill and is ignored."""
    if not tracker.is_file():
        return []
    *complete, _cut_off = tracker.read_bytes().split(b"\n")
    return [record for line in complete if (record := _flatten_whole(line)) is not None]


def _flatten_whole(line: bytes) -> Record | None:
    try:
        return flatten(line)
    except ValueError:
        # Truncated by a full disk; the step counts as not recorded.
        return None


def _read_metrics(path: Path) -> dict[int, Record]:
    if not path.is_file():
        return {}
    *complete, _cut_off = path.read_bytes().split(b"\n")
    return {record["step"]: record for record in map(json.loads, complete)}


class MetricsFile:
    """metrics.jsonl; at any time it has every step exactly once."""

    def __init__(self, path: Path, records: Mapping[int, Record]) -> None:
        self._path = path
        self._records = dict(records)
        if records or path.is_file():
            self._write_all()

    def add(self, record: Record) -> None:
        """Append a step, or extend its existing record."""
        step = record["step"]
        if step in self._records:
            self._records[step] = {**self._records[step], **record}
            self._write_all()
        else:
            self._records[step] = record
            with self._path.open("a", encoding="utf-8") as target:
                target.write(json.dumps(record) + "\n")

    def _write_all(self) -> None:
        lines = [json.dumps(self._records[step]) + "\n" for step in sorted(self._records)]
        durable.write(self._path, "".join(lines).encode())


class MetricsFollower:
    """Reads the records that verl's `file` logger appends and adds each to metrics.jsonl at once."""

    def __init__(self, tracker: Path, metrics: MetricsFile) -> None:
        self._tracker = tracker
        self._metrics = metrics
        self._read_bytes = 0
        self._pending = b""

    def new_records(self) -> Iterator[Record]:
        """Yield every record completed since the last call."""
        if not self._tracker.exists():
            return
        # Reopened each time: an open file may lag behind if the trainer writes on another node.
        with self._tracker.open("rb") as source:
            source.seek(self._read_bytes)
            new = source.read()
        self._read_bytes += len(new)
        *complete, self._pending = (self._pending + new).split(b"\n")
        for line in complete:
            record = flatten(line)
            self._metrics.add(record)
            yield record
