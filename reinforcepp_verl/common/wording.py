"""Text shared by messages: name suggestions, and the first line of an exception."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _repr.maxlong = 80


def nearest(name: object, known: Iterable[str]) -> str | None:
    """Return the known name with the most similar spelling to `name`; None if none is similar."""
    names = list(known)
    spelled = {_plain(each): each for each in names}
    return spelled.get(_plain(str(name))) or next(iter(difflib.get_close_matches(str(name), names, n=1)), None)


def _plain(name: str) -> str:
    """Return a name without the differences in writing that mean nothing: REINFORCE++ is reinforcepp."""
    return name.lower().replace("++", "pp").replace("-", "_").replace(" ", "_")


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return " (did you mean X?)" for the most similar known name, or "" if none is similar."""
    near = nearest(name, known)
    return f" (did you mean {near}?)" if near else ""


def first_line(error: BaseException) -> str:
    """Return the first nonempty line of an exception's message, or its type."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def shown(value: object) -> str:
    """Return a value as Python writes it, shortened if it is long."""
    return _repr.repr(value)
