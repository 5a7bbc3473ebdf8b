"""From verl's file logger to the run's metrics.jsonl: one flat JSON object a step."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import IO, Any

MEAN_OF_SOURCES = "mean_of_sources"
_BY_SOURCE = re.compile(r"val-core/.+/((?:acc|reward)/mean@\d+)")


def mean_of_sources(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the mean of a validation metric over the data sources, each with the same weight; {} for a single one."""
    by_kind: dict[str, list[float]] = {}
    for name, value in metrics.items():
        if found := _BY_SOURCE.fullmatch(name):
            by_kind.setdefault(found[1], []).append(value)
    return {f"val-core/{MEAN_OF_SOURCES}/{kind}": fmean(values) for kind, values in by_kind.items() if len(values) > 1}


class MetricsFollower:
    """Reads the records that verl's `file` logger appends and writes each to metrics.jsonl at once."""

    def __init__(self, tracker: Path, metrics: Path) -> None:
        self._tracker = tracker
        self._metrics = metrics
        self._source: IO[bytes] | None = None
        self._pending = b""

    def new_records(self) -> Iterator[dict[str, Any]]:
        """Yield `{"step": int, "<verl metric>": number, ...}` for every record completed since the last call.

        Where several data sources are validated, their mean stands beside them, as `val-core/mean_of_sources/...`.
        """
        if self._source is None:
            if not self._tracker.exists():
                return
            self._source = self._tracker.open("rb")
        *complete, self._pending = (self._pending + self._source.read()).split(b"\n")
        for line in complete:
            raw = json.loads(line)
            record = {"step": raw["step"], **raw["data"], **mean_of_sources(raw["data"])}
            with self._metrics.open("a", encoding="utf-8") as target:
                target.write(json.dumps(record) + "\n")
            yield record

    def close(self) -> None:
        if self._source is not None:
            self._source.close()
