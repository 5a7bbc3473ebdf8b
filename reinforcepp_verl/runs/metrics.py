"""From verl's file logger to the run's metrics.jsonl: one flat JSON object a step."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


class MetricsFollower:
    """Reads the records that verl's `file` logger appends and writes each to metrics.jsonl at once."""

    def __init__(self, tracker: Path, metrics: Path) -> None:
        self._tracker = tracker
        self._metrics = metrics
        self._source: IO[bytes] | None = None
        self._pending = b""

    def new_records(self) -> Iterator[dict[str, Any]]:
        """Yield `{"step": int, "<verl metric>": number, ...}` for every record completed since the last call."""
        if self._source is None:
            if not self._tracker.exists():
                return
            self._source = self._tracker.open("rb")
        *complete, self._pending = (self._pending + self._source.read()).split(b"\n")
        for line in complete:
            raw = json.loads(line)
            record = {"step": raw["step"], **raw["data"]}
            with self._metrics.open("a", encoding="utf-8") as target:
                target.write(json.dumps(record) + "\n")
            yield record

    def close(self) -> None:
        if self._source is not None:
            self._source.close()
