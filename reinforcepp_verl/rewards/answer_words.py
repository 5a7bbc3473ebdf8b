r"""Compares words that change the number before them (`5\text{ million}` is not 5); math-verify drops such words."""

from __future__ import annotations

import re

_TEXT = re.compile(r"\\(?:text[a-z]*|mbox|mathrm)\s*\{([^{}]*)\}|\\[pb]?(mod)(?![a-z])")
_LETTER = re.compile(r"[^\W\d_]")
_CONSTANTS = (r"\mathrm{e}", r"\mathrm{i}", r"\mathrm{d}")
_MARK = "\x01"
_FUNCTION = r"(?!(?:sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|pi|and|or|in|cup)\b)"
# Two letters without a space before them are as likely a product.
_BARE_WORD = rf"(?<=\d) {_FUNCTION}(?=[A-Za-z]{{2}})|(?<=[)}}]){_FUNCTION}(?=[a-z]{{3}})"
_TAIL = re.compile(rf"\D*\d[^{_MARK}]*?(?:{_MARK}|{_BARE_WORD})")
# `6 and 8` are two answers, `12 dollars and 50 cents` is one.
_AND_ANOTHER = rf"{_MARK}?\b(?:and|or)\b *(?=[-+\d\\({{\[.]|[a-zA-Z] *=)"
_PIECES = re.compile(rf"[,;]|(?<![A-Za-z]{{2}})(?<![A-Za-z]{{2}} ) ?{_AND_ANOTHER}")
_EXPONENT = re.compile(r"\^\{?-?\d\}?")
_PLURAL = re.compile(r"(?<=[a-z]{2})(?:es|s|e)\b")
_QUALIFIER = re.compile(
    r"\b(?:hundred|thousand|million|billion|trillion|dozen|k|half|halves|thirds|tenths|hundredths|mod|modulo|squared"
    r"|cubed|factorial|more|less|fewer|greater|least|most|not|plus|minus)s?\b",
    re.IGNORECASE,
)


def words_differ(truth: str, answer: str) -> bool:
    """Return True if the words after the numbers make two normal forms different.

    Words on both sides must be equal up to case, periods and the plural. Words on only one side are treated as a unit
    that the other side omits, unless they scale or qualify the number or lead to another one.
    """
    expected, given = _tails(truth), _tails(answer)
    if expected and given:
        return {_essence(tail) for tail in expected} != {_essence(tail) for tail in given}
    return any(_QUALIFIER.search(tail) or re.search(r"\d", _EXPONENT.sub("", tail)) for tail in expected + given)


def _tails(text: str) -> list[str]:
    """Return the text from the first word after a number on, for each part of a list of answers."""
    marked = _TEXT.sub(_unwrapped, text)
    found = ((_TAIL.match(piece), piece) for piece in _PIECES.split(marked))
    return [piece[match.end() :].replace(_MARK, " ") for match, piece in found if match]


def _unwrapped(command: re.Match[str]) -> str:
    """Unwrap words from their LaTeX command, with a mark before them."""
    words = command[1] if command[2] is None else command[2]
    return words if command[0] in _CONSTANTS or not _LETTER.search(words) else f"{_MARK}{words} "


def _essence(tail: str) -> str:
    """Return a tail without plural endings, case and punctuation."""
    return re.sub(r"[^\w/-]", "", _PLURAL.sub("", tail.lower()))
