"""The table of results: one row for each number, one Parquet file per suite, written after every finished cell."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from reinforcepp_verl.common import durable

COLUMNS = ("suite", "method", "seed", "step", "metric", "value", "overrides", "inputs", "versions", "hardware", "date")


@dataclass(frozen=True)
class Origin:
    """What a cell was made with, the same in all its rows."""

    overrides: str
    inputs: str
    """A digest of data and models."""
    versions: str
    hardware: str
    date: str


def path_of(folder: Path, suite: str) -> Path:
    return folder / f"{suite}.parquet"


def read(folder: Path, suite: str) -> pd.DataFrame:
    """Return a suite's rows; none if it has no file yet.

    Raises:
        ValueError: the file is damaged or has other columns
    """
    path = path_of(folder, suite)
    if not path.is_file():
        return pd.DataFrame(columns=list(COLUMNS))
    try:
        table = pd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read: {str(error).splitlines()[0]}; restore it, or move it away") from error
    if tuple(table.columns) != COLUMNS:
        raise ValueError(f"{path} is no table of this version: its columns are not {', '.join(COLUMNS)}; move it away")
    return table


def cell_rows(
    suite: str, method: str, seed: int, origin: Origin, curves: dict[str, tuple[np.ndarray, np.ndarray]]
) -> pd.DataFrame:
    """Return the rows of a finished cell; `curves` has the steps and values of each metric."""
    rows = [(step, metric, value) for metric, curve in curves.items() for step, value in zip(*curve, strict=True)]
    table = pd.DataFrame(rows, columns=["step", "metric", "value"]).astype({"step": "int64", "value": "float64"})
    return table.assign(suite=suite, method=method, seed=seed, **asdict(origin))[list(COLUMNS)]


def add(folder: Path, suite: str, rows: pd.DataFrame) -> None:
    """Add a cell to its suite's file; what an earlier run of the same cell wrote is replaced."""
    old = read(folder, suite)
    cell = rows.iloc[0]
    kept = old[(old.method != cell.method) | (old.seed != cell.seed)]
    whole = pd.concat([kept, rows], ignore_index=True) if len(kept) else rows
    # Sorted, so that the order in which the cells finished leaves no trace.
    whole = whole.sort_values(["method", "seed", "metric", "step"], kind="stable", ignore_index=True)
    content = io.BytesIO()
    whole.to_parquet(content, index=False, compression="zstd")
    folder.mkdir(parents=True, exist_ok=True)
    durable.write(path_of(folder, suite), content.getvalue())


def finished(table: pd.DataFrame) -> dict[tuple[str, int], tuple[str, str]]:
    """Return overrides and inputs of every cell that the table has, by method and seed."""
    first = table.drop_duplicates(["method", "seed"])
    return {(row.method, int(row.seed)): (row.overrides, row.inputs) for row in first.itertuples()}


def has(rows: pd.DataFrame, measure: str) -> bool:
    """Return True if every cell has values of this metric."""
    with_it = rows[rows.metric == measure]
    return bool(finished(rows) == finished(with_it))


def cells_of(folder: Path, suites: Iterable[str]) -> dict[str, list[pd.DataFrame]]:
    """Return the rows of each cell in the tables of these suites, by the cell's overrides."""
    cells = defaultdict(list)
    for suite in suites:
        for _, cell in read(folder, suite).groupby(["method", "seed"]):
            cells[cell.overrides.iloc[0]].append(cell)
    return cells
