"""JSON text of values that JSON lacks: tuples, fractions, and mappings whose keys are not text.

Verifiers of puzzles compare their metadata with `==`, for which a list is not a tuple.
"""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

_TUPLE, _FRACTION, _ITEMS = "__tuple__", "__fraction__", "__items__"


def dumps(value: Any) -> str:
    """Return the value as JSON; `loads` returns an equal value of the same types.

    Raises:
        TypeError: it holds something that this does not know
    """
    return json.dumps(_plain(value), ensure_ascii=False)


def loads(text: str) -> Any:
    """Return the value that `dumps` was given."""
    return json.loads(text, object_hook=_restored)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value):
            return {key: _plain(each) for key, each in value.items()}
        return {_ITEMS: [[_plain(key), _plain(each)] for key, each in value.items()]}
    if isinstance(value, tuple):
        return {_TUPLE: [_plain(each) for each in value]}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return {_FRACTION: str(value)} if isinstance(value, Fraction) else value


def _restored(found: dict[str, Any]) -> Any:
    if found.keys() == {_TUPLE}:
        return tuple(found[_TUPLE])
    if found.keys() == {_FRACTION}:
        return Fraction(found[_FRACTION])
    return dict(found[_ITEMS]) if found.keys() == {_ITEMS} else found
