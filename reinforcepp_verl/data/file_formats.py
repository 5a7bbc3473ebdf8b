"""The file formats that can be read, also compressed, and their rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets

FORMATS = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".csv": "csv"}
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
    else:
        yield from datasets.load_dataset(format_of(file), data_files=str(file), split="train", streaming=True)


def _csv_rows(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows with every value as the text that it is: pandas would read `007` as 7 and `NA` as nothing."""
    settings: dict[str, Any] = {"data_files": str(file), "split": "train", "streaming": True}
    first: dict[str, Any] = next(iter(datasets.load_dataset("csv", **settings)), {})
    as_text = datasets.Features({column: datasets.Value("string") for column in first})
    if first:
        yield from datasets.load_dataset("csv", features=as_text, keep_default_na=False, **settings)


def _uncompressed(file: Path) -> Path:
    return file.with_suffix("") if file.suffix in COMPRESSIONS else file
