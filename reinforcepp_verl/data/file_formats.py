"""The file formats that can be read, also compressed, and their rows."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import datasets
import fsspec

FORMATS = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".csv": "csv"}
HEAD_ROWS = 1000
LONGEST_FIELD = 2**31 - 1
SEPARATORS = ";\t|"
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zip", ".zst", ".lz4")
ENDINGS = f"{', '.join(FORMATS)} (also with {', '.join(COMPRESSIONS)})"


def format_of(file: Path) -> str | None:
    """Return the reader of `datasets` for a file, None if its name ends in none of the formats."""
    return FORMATS.get(_uncompressed(file).suffix)


def stem(file: Path) -> str:
    """Return the name without format and compression: `train` for `train.jsonl.gz`."""
    return _uncompressed(file).stem


def rows(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows. They are streamed, because otherwise `datasets` would copy local files into its cache."""
    if format_of(file) == "csv":
        yield from _csv_rows(file)
    elif format_of(file) == "json":
        yield from _with_all_columns(_json_rows(file))
    else:
        yield from datasets.load_dataset(format_of(file), data_files=str(file), split="train", streaming=True)


def _csv_rows(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows with every value as the text that it is.

    pandas, which `datasets` uses, would read `007` as 7 and `NA` as nothing, and shift the columns of a row with one
    value too many.
    """
    csv.field_size_limit(LONGEST_FIELD)
    with _opened(file, newline="") as text:
        lines = csv.reader(text, strict=True)
        header: list[str] = []
        try:
            for values in lines:
                if not any(value.strip() for value in values):
                    continue
                if not header:
                    header = _header([name.strip() for name in values])
                elif len(values) != len(header):
                    raise ValueError(f"{len(values)} values for {len(header)} columns: quote values that have commas")
                else:
                    yield dict(zip(header, values, strict=True))
        except UnicodeError:
            raise
        except (csv.Error, ValueError) as error:
            raise ValueError(f"line {lines.line_num}: {error}") from None


def _header(names: list[str]) -> list[str]:
    """Return the names of the columns, which must differ; those without a name are not used."""
    if twice := next((name for name in names if name and names.count(name) > 1), None):
        raise ValueError(f"two columns {twice}")
    if len(names) == 1 and (separator := next((mark for mark in SEPARATORS if mark in names[0]), None)):
        raise ValueError(f"one column, {names[0]!r}; it seems to be separated by {separator!r}: write it with commas")
    return names


def _opened(file: Path, newline: str | None = None) -> Any:
    """Open a text file, also a compressed one."""
    if file.suffix == ".zip" and len(members := zipfile.ZipFile(file).namelist()) != 1:
        raise ValueError(f"it holds {len(members)} files: give one file, or unpack it and give the folder")
    return fsspec.open(str(file), "rt", encoding="utf-8-sig", newline=newline, compression="infer")


def _json_rows(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of one list, or of one object per line, with the values that stand there.

    pandas, which `datasets` uses where types differ, would read "007" as 7 and round large integers.
    """
    with _opened(file) as text:
        lines = ((number, line) for number, line in enumerate(text, 1) if line.strip())
        first = next(lines, None)
        if first is None:
            raise ValueError("it has no rows")
        if first[1].lstrip().startswith("["):
            rows = json.loads(first[1] + text.read())
            yield from (_object(f"entry {number}", row) for number, row in enumerate(rows))
            return
        for number, line in chain([first], lines):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
            yield _object(f"line {number}", row)


def _with_all_columns(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Give each row the columns of the first ones, null where it lacks them, as `datasets` does."""
    head = list(islice(rows, HEAD_ROWS))
    columns = dict.fromkeys(column for row in head for column in row)
    yield from (columns | row for row in chain(head, rows))


def _object(place: str, row: Any) -> dict[str, Any]:
    """Return a row; the columns of one that is a list are its positions, as `datasets` names them."""
    if isinstance(row, list):
        return {str(position): value for position, value in enumerate(row)}
    if not isinstance(row, dict):
        raise ValueError(f"{place}: {row!r:.40} is not an object")
    return row


def _uncompressed(file: Path) -> Path:
    return file.with_suffix("") if file.suffix in COMPRESSIONS else file
