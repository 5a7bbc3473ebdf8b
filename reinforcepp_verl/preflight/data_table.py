"""Reads a data file in batches of rows; accepts and refuses what verl's loader, `datasets.load_dataset`, does."""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from reinforcepp_verl.common.wording import first_line

SUFFIXES = (".parquet", ".json", ".jsonl")
PARQUET_ROWS = 16384
TYPED_ROWS = 1000
JSON_BYTES = 10 << 20
"""The loader's, so that an object over several lines is accepted and refused alike."""

Batch: TypeAlias = pa.Table | list[dict[str, Any]]
"""Consecutive rows. JSON is a list if it was one, or if a column has several types, which only the loader can hold."""


class UnreadableTableError(ValueError):
    """The file exists but is not a table that verl can read; the message continues "FILE ..."."""


@dataclass(frozen=True)
class Table:
    """A data file: its columns, with their types, and a way to its rows."""

    file: Path
    types: Mapping[str, pa.DataType]
    """Null for a column of JSON without values or with several types."""

    def batches(self, columns: Sequence[str]) -> Iterator[Batch]:
        """Yield all rows in order, with at least `columns`; raises UnreadableTableError."""
        return _parquet_batches(self.file, columns) if _is_parquet(self.file) else _json_batches(self.file)

    def first_row(self, columns: Sequence[str]) -> dict[str, Any]:
        """Return the first row, with at least `columns`; raises UnreadableTableError."""
        return rows_of(next(self.batches(columns))[:1])[0]


def read(file: Path) -> Table:
    """Open a data file, using the same suffixes as verl."""
    if not file.exists():
        raise FileNotFoundError(file)
    if not file.is_file() or file.suffix not in SUFFIXES:
        raise UnreadableTableError(f"is not a file that ends in {', '.join(SUFFIXES)}")
    types = _parquet_types(file) if _is_parquet(file) else _json_types(file)
    if types is None:
        raise UnreadableTableError("has no rows")
    return Table(file, types)


def rows_of(batch: Batch) -> list[dict[str, Any]]:
    """Return the rows as Python objects, which is slow for an Arrow table."""
    rows: list[dict[str, Any]] = batch.to_pylist() if isinstance(batch, pa.Table) else batch
    return rows


def _is_parquet(file: Path) -> bool:
    return file.suffix == ".parquet"


def _parquet_types(file: Path) -> dict[str, pa.DataType] | None:
    try:
        metadata = pq.read_metadata(file)
        schema = metadata.schema.to_arrow_schema()
    except (pa.ArrowException, OSError) as error:
        raise UnreadableTableError(f"is not a readable parquet file ({first_line(error)})") from None
    twice = next((name for name in schema.names if schema.names.count(name) > 1), None)
    if twice is not None:
        raise UnreadableTableError(f"has two columns {twice}")
    return {field.name: field.type for field in schema} if metadata.num_rows else None


def _parquet_batches(file: Path, columns: Sequence[str]) -> Iterator[Batch]:
    try:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=PARQUET_ROWS, columns=list(columns)):
                yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        raise UnreadableTableError(f"is not a readable parquet file ({first_line(error)})") from None


def _json_types(file: Path) -> dict[str, pa.DataType] | None:
    batch = next(_json_batches(file), None)
    if batch is None:
        return None
    return _types_of(batch) if isinstance(batch, list) else {field.name: field.type for field in batch.schema}


def _types_of(rows: list[dict[str, Any]]) -> dict[str, pa.DataType]:
    names = dict.fromkeys(name for row in rows for name in row or ())
    try:
        known = pa.Table.from_struct_array(pa.array(rows[:TYPED_ROWS])).schema
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return {name: pa.null() for name in names}
    return {name: known.field(name).type if name in known.names else pa.null() for name in names}


def _json_batches(file: Path) -> Iterator[Batch]:
    """Yield the rows of one list, or of one object per line."""
    line = 1
    try:
        with file.open("rb") as stream:
            text = stream.read(JSON_BYTES).removeprefix(codecs.BOM_UTF8)
            if text.lstrip().startswith(b"["):
                rows = json.loads((text + stream.read()).decode("utf-8"))
                yield from [_objects(rows)] if rows else ()
                return
            while text:
                text += stream.readline()
                if text.strip():
                    yield _parsed(text, line)
                line += text.count(b"\n")
                text = stream.read(JSON_BYTES)
    except (ValueError, OSError, RecursionError) as error:
        raise UnreadableTableError(f"is not a readable JSON file ({first_line(error)})") from None


def _parsed(text: bytes, first: int) -> Batch:
    # One block, because a row cannot straddle two.
    options = pyarrow.json.ReadOptions(use_threads=False, block_size=len(text) + 1)
    try:
        return pyarrow.json.read_json(io.BytesIO(text), read_options=options)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        lines = [line for line in enumerate(text.splitlines(), first) if line[1].strip()]
        rows = _objects([_json(number, line) for number, line in lines])
        if "changed from" in str(error):
            return rows
        where = re.search(r" in row (\d+)$", str(error))
        raise ValueError(f"line {lines[int(where[1])][0]}: {error}" if where else str(error)) from None


def _json(number: int, line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"line {number}: {error}") from None


def _objects(rows: list[Any]) -> list[dict[str, Any]]:
    for number, row in enumerate(rows):
        if not isinstance(row, dict | None):
            raise ValueError(f"row {number} is {row!r:.60}, not an object")
    return rows
