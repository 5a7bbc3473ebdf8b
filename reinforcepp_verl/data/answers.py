"""Extracts the final answer from a source's answer column, and classifies it."""

from __future__ import annotations

import re

from reinforcepp_verl.data.rows import UnusableRowError

KINDS = ("integer", "fraction", "decimal", "expression", "text")

_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_NUMBER = r"[-+]?(?:\d+|\d{1,3}(?:,(?:\\!)?\d{3})+)"
_LATEX_FRACTION = r"[-+]?\\[dt]?frac\s*(?:\{[-+]?\d+\}|\d)\s*(?:\{[-+]?\d+\}|\d)"
_SHAPES = {
    "integer": re.compile(_NUMBER),
    "fraction": re.compile(rf"{_NUMBER}\s*/\s*\d+|{_LATEX_FRACTION}"),
    "decimal": re.compile(rf"(?:{_NUMBER})?\.\d+|{_NUMBER}\.\d*"),
    "text": re.compile(r"\\(?:text|textbf|mbox|mathrm)\s*\{[^{}]*\}|[^\W\d_]+(?:[ ,.'-]+[^\W\d_]+)*\.?"),
}


def plain(answer: str) -> str:
    """Return the answer unchanged: the column holds nothing else."""
    return answer.strip()


def stated(answer: str) -> str:
    """Return the answer unless it is one of NuminaMath's words for a question without one."""
    if answer.strip() in ("proof", "notfound"):
        raise UnusableRowError(f"the answer is {answer.strip()!r}")
    return plain(answer)


def after_hashes(solution: str) -> str:
    """Return the text after the last `####`, without commas between digits: GSM8K's convention."""
    _, hashes, answer = solution.rpartition("####")
    if not hashes:
        raise UnusableRowError("no #### in the answer")
    return re.sub(r"(?<=\d),(?=\d{3})", "", answer.strip())


def last_boxed(solution: str) -> str:
    r"""Return the content of the last `\boxed{...}` or `\boxed x`: MATH's convention."""
    boxes = list(_BOX.finditer(solution))
    if not boxes:
        raise UnusableRowError(r"no \boxed in the answer")
    start = boxes[-1].end()
    if not solution.startswith("{", start):
        return solution[start:].partition("$")[0].strip()
    depth = 0
    for brace in re.finditer(r"\\.|[{}]", solution[start:], re.DOTALL):  # \{ and \} are not braces
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return solution[start + 1 : start + brace.start()].strip()
    raise UnusableRowError(r"the last \boxed is not closed")


def integer(answer: str) -> str:
    r"""Return an AIME answer in its plain form: `033` is 33 and `336^\circ` is 336."""
    match = re.fullmatch(r"(\d+)(?:\^\{?\\circ\}?)?", answer.strip())
    if match is None:
        raise UnusableRowError("the answer is not an integer")
    return str(int(match.group(1)))


def kind(answer: str) -> str:
    """Return the one of `KINDS` that the answer looks like."""
    bare = answer.strip().strip("$").strip()
    return next((name for name, shape in _SHAPES.items() if shape.fullmatch(bare)), "expression")
