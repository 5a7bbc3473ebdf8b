"""Values at dotted paths of a row, `reward_model.ground_truth` or `prompt.0.content`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from reinforcepp_verl.data.rows import UnusableRowError


def value(raw: Any, path: str) -> Any:
    """Return the value at a path; a column may also have the whole path as its name."""
    if isinstance(raw, dict) and path in raw:
        return raw[path]
    at = raw
    for number, key in enumerate(path.split(".")):
        if isinstance(at, dict) and key in at:
            at = at[key]
        elif isinstance(at, list) and key.isdecimal() and int(key) < len(at):
            at = at[int(key)]
        else:
            place = ".".join(path.split(".")[:number]) or "the row"
            raise UnusableRowError(f"{place} has no {key}")
    return at


def text(raw: dict[str, Any], path: str) -> str:
    """Return the text at a path; a number is returned as text."""
    return as_text(value(raw, path), path)


def as_text(found: Any, name: str) -> str:
    """Return a text or a number as text."""
    if isinstance(found, bool) or not isinstance(found, str | int | float | Decimal):
        raise UnusableRowError(f"empty {name}" if found is None else f"{name} is not text")
    if isinstance(found, float) and not math.isfinite(found):
        raise UnusableRowError(f"{name} is {found}")
    return format(found, "f") if isinstance(found, Decimal) else str(found)


def named(columns: Iterable[str]) -> str:
    """Return the names of columns for a message, in quotes if they begin or end with a blank or contain separators."""
    return ", ".join(name if name.strip() == name and not set(name) & set(";\t,") else repr(name) for name in columns)


def short(raw: dict[str, Any]) -> str:
    """Return the row as one line, short enough for a message."""
    line = json.dumps(raw, ensure_ascii=False, default=str)
    return line if len(line) <= 300 else line[:300] + "…"
