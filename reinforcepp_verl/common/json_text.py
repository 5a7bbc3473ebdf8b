"""Reads JSON that may be cut off, empty or garbage: whatever is wrong with it is a ValueError of one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

FIRST_BLOCK, LAST_BLOCKS = 2**16, 2**24
"""Bytes of the first block that `lines_from_the_end` reads, and about how many it reads at most."""


def parse_object(text: bytes) -> dict[str, Any]:
    """Return a JSON object; NaN and Infinity are accepted, because Python writes them.

    Raises:
        ValueError: it is something else
    """
    try:
        found = orjson.loads(text)
    except ValueError:
        found = _parse_as_python_does(text)
    if not isinstance(found, dict):
        raise ValueError("not a JSON object")
    return found


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        ValueError: the file is empty or damaged
        OSError: it cannot be read
    """
    try:
        return parse_object(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _parse_as_python_does(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("not valid JSON") from error


def lines_from_the_end(path: Path) -> Iterator[bytes]:
    """Yield the last lines of a file, newest first, without reading all of it; the first of them may be cut off."""
    with path.open("rb") as stream:
        end, block, start_of_line = stream.seek(0, 2), FIRST_BLOCK, b""
        while end > 0 and block <= LAST_BLOCKS:
            start = max(0, end - block)
            stream.seek(start)
            start_of_line, *lines = (stream.read(end - start) + start_of_line).split(b"\n")
            yield from reversed(lines)
            # Doubled, so that a file without line ends is not copied again and again.
            end, block = start, 2 * block
        if end == 0:
            yield start_of_line


def objects(path: Path, fix: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects in a file with one JSON object per line, with the numbers of their lines; skip empty lines.

    Raises:
        ValueError: a line is something else; the message ends with `fix`
    """
    with path.open("rb") as file:
        for number, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                found = parse_object(text)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}; {fix}") from error
            yield number, found
