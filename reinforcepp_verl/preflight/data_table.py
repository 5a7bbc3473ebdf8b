"""Reads the number of rows, the columns and the first rows of a data file, without loading all of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

HEAD_ROWS = 4
SUFFIXES = (".parquet", ".json", ".jsonl")


class UnreadableTableError(ValueError):
    """The file exists but is not a table that verl can read; the message continues "FILE ..."."""


@dataclass(frozen=True)
class Table:
    """The properties of a data file that the checks need."""

    rows: int
    columns: Sequence[str]
    head: Sequence[dict[str, Any]]


def read(file: Path) -> Table:
    """Read the properties of a data file, using the same suffixes as verl."""
    if not file.exists():
        raise FileNotFoundError(file)
    if not file.is_file() or file.suffix not in SUFFIXES:
        raise UnreadableTableError(f"is not a file that ends in {', '.join(SUFFIXES)}")
    return _read_parquet(file) if file.suffix == ".parquet" else _read_json(file)


def _read_parquet(file: Path) -> Table:
    try:
        with pq.ParquetFile(file) as parquet:
            batch = next(parquet.iter_batches(batch_size=HEAD_ROWS), None)
            head = batch.to_pylist() if batch is not None else []
            return Table(parquet.metadata.num_rows, parquet.schema_arrow.names, head)
    except (pa.ArrowException, OSError) as error:
        raise UnreadableTableError(f"is not a readable parquet file ({str(error).splitlines()[0]})") from None


def _read_json(file: Path) -> Table:
    try:
        head = list(islice(_json_rows(file), HEAD_ROWS))
        rows = sum(1 for _ in _json_rows(file, parse=False))
    except (ValueError, OSError) as error:
        raise UnreadableTableError(f"is not a readable JSON file ({error})") from None
    if not all(isinstance(row, dict) for row in head):
        raise UnreadableTableError("does not have one JSON object per row")
    return Table(rows, list(head[0]) if head else [], head)


def _json_rows(file: Path, parse: bool = True) -> Iterator[Any]:
    """Yield the rows of a JSON list, or of one object per line."""
    with file.open(encoding="utf-8") as lines:
        if lines.read(1) == "[":
            lines.seek(0)
            yield from json.load(lines)
            return
        lines.seek(0)
        for line in lines:
            if line.strip():
                yield json.loads(line) if parse else None
