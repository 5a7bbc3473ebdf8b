"""Finds duplicate questions in a data set, and training questions that are also in an evaluation set."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from reinforcepp_verl.data.rows import Row, truths


def normalize(text: str) -> str:
    """Return the text without case, whitespace and Unicode variants of a character."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def question_key(row: Row) -> bytes:
    """Return a short key, equal for rows with the same question."""
    return _digest(normalize(row["extra_info"]["question"]))


@dataclass
class RowFilter:
    """Removes duplicate rows of a split and rows that are in an evaluation set, and counts both.

    `asked` are the keys of the evaluation questions; with `keep_overlap` their rows are counted but kept. Without
    `drop_duplicates` duplicates are counted but kept, so that an evaluation set stays as published. `questions`
    collects the keys of the split's own questions.
    """

    asked: frozenset[bytes] = frozenset()
    keep_overlap: bool = False
    drop_duplicates: bool = True
    duplicates: int = 0
    disagreeing: int = 0
    overlap: int = 0
    first_overlap: str | None = None
    questions: set[bytes] = field(default_factory=set)
    _truths: dict[bytes, bytes] = field(default_factory=dict)

    def rows(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the remaining rows."""
        for row in rows:
            self.questions.add(question_key(row))
            keep_duplicate = self._count_duplicate(row)
            if keep_duplicate and self._count_overlap(row):
                yield row

    def _count_duplicate(self, row: Row) -> bool:
        pair = [row[column] for column in ("chosen", "rejected") if column in row]
        key = question_key(row) + (_digest(json.dumps(pair)) if pair else b"")  # a prompt may have several pairs
        truth = _digest(json.dumps([normalize(truth) for truth in truths(row)]))
        if key not in self._truths:
            self._truths[key] = truth
            return True
        self.duplicates += 1
        self.disagreeing += truth != self._truths[key]
        return not self.drop_duplicates

    def _count_overlap(self, row: Row) -> bool:
        if question_key(row) not in self.asked:
            return True
        self.overlap += 1
        self.first_overlap = self.first_overlap or row["extra_info"]["question"]
        return self.keep_overlap


def test_file(path: Path) -> Path:
    """Return the test split of a prepared folder; a file is returned unchanged."""
    return path / "test.parquet" if path.is_dir() else path


def questions_of(path: Path) -> frozenset[bytes]:
    """Return the keys of the questions in a file written by `reinforcepp prepare`, or in its folder's test split."""
    file = test_file(path)
    try:
        information = pq.read_table(file, columns=["extra_info"]).column("extra_info").to_pylist()
        return frozenset(question_key({"extra_info": extra}) for extra in information)
    except FileNotFoundError:
        raise ValueError(f"--against: no such file: {file}; create it with `reinforcepp prepare`") from None
    except (pa.ArrowException, OSError, KeyError, TypeError):
        raise ValueError(f"--against: {file} was not written by `reinforcepp prepare`; prepare it again") from None


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
