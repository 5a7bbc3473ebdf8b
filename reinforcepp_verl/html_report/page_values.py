"""Values on their way into the page: only what JSON has, in few digits, and texts whose every character can be seen."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson
from jinja2.utils import htmlsafe_json_dumps

from reinforcepp_verl.common.terminal import printable

DIGITS = 5
LARGEST_INTEGER = 2**53
"""Scripts round larger ones."""


def shown_text(text: str) -> str:
    r"""Return a text with control characters and lone surrogates as escapes, such as `\x1b`, and without others."""
    return printable(text.encode("utf-8", "backslashreplace").decode())


def for_page(value: Any) -> Any:
    """Return a value of dicts, lists, arrays, texts and numbers as JSON has it; NaN and infinity become None."""
    if isinstance(value, str):
        return shown_text(value)
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        return str(value)
    if isinstance(value, dict):
        return {shown_text(str(name)): for_page(content) for name, content in value.items()}
    if isinstance(value, list | tuple):
        return [for_page(each) for each in value]
    if isinstance(value, np.ndarray | np.integer):
        return for_page(value.tolist())
    return value


def as_json(value: Any) -> str:
    """Return a value as JSON for the content of a script element: no text in it can end the element.

    An `orjson.Fragment` in it is what this function has returned before.
    """
    return htmlsafe_json_dumps(for_page(value), lambda plain: orjson.dumps(plain).decode())
