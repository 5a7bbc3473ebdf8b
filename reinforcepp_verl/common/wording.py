"""Wording that messages share: near names, and the first line of an exception."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: object, known: Iterable[str]) -> str | None:
    """Return the known name that is spelt most like `name`, None when none is near."""
    return next(iter(difflib.get_close_matches(str(name), list(known), n=1)), None)


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return " (did you mean X?)" for the nearest known name, or nothing when none is near."""
    near = nearest(name, known)
    return f" (did you mean {near}?)" if near else ""


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message that says something, or its type."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
