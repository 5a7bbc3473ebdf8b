"""metrics.jsonl, written from the output of verl's file logger: one flat JSON object per step, each step once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from reinforcepp_verl.common import durable
from reinforcepp_verl.report.run_records import Record, flatten, metrics_record, whole_records


class MetricsFile:
    """metrics.jsonl; at any time it has every step exactly once. Only the newest record is kept in memory."""

    def __init__(self, path: Path, records: Mapping[int, Record]) -> None:
        self._path = path
        self._newest = records[max(records)] if records else None
        if records or path.is_file():
            self._write(records)

    def add(self, record: Record) -> None:
        """Append a step, or extend its existing record."""
        if self._newest is None or record["step"] > self._newest["step"]:
            self._newest = record
            durable.append(self._path, _line(record))
        else:
            with self._path.open("rb") as lines:
                records = {known["step"]: known for known in whole_records(lines, metrics_record)}
            records[record["step"]] = {**records.get(record["step"], {}), **record}
            self._newest = records[max(records)]
            self._write(records)

    def _write(self, records: Mapping[int, Record]) -> None:
        durable.write(self._path, (_line(records[step]) for step in sorted(records)))


def _line(record: Record) -> bytes:
    return (json.dumps(record) + "\n").encode()


class MetricsFollower:
    """Reads the records that verl's `file` logger appends and adds each to metrics.jsonl at once."""

    def __init__(self, tracker: Path, metrics: MetricsFile) -> None:
        self._tracker = tracker
        self._metrics = metrics
        self._read_bytes = 0
        self._pending = b""

    def new_records(self) -> Iterator[Record]:
        """Yield every record completed since the last call; a damaged line counts as not recorded."""
        if not self._tracker.exists():
            return
        # Reopened each time: an open file may lag behind if the trainer writes on another node.
        with self._tracker.open("rb") as source:
            source.seek(self._read_bytes)
            new = source.read()
        self._read_bytes += len(new)
        *complete, self._pending = (self._pending + new).split(b"\n")
        for record in whole_records(complete, flatten):
            self._metrics.add(record)
            yield record
