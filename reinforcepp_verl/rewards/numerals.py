r"""Writes numbers plainly: `0.\overline{3}` and `1\frac12` as fractions, `5 million` as 5000000, `3,\!600` as 3600."""

from __future__ import annotations

import re
from decimal import Decimal

from reinforcepp_verl.rewards.words import NUMERALS, SIZES

_BASES = {word: number for word, number in NUMERALS.items() if 2 <= number <= 16}
# `\!`, `\,`, an apostrophe and braces around a comma join the digits of one number, also in brackets: 3,\!600 is not a
# list.
_JOIN = r"(?:,?\\[!,] *|\{,\}(?:\\!)?|['’])"
_JOINED = re.compile(rf"(?<![\d.])(\d{{1,3}})((?:{_JOIN}\d{{3}})+)(?!\d)")
_JOINED_DECIMALS = re.compile(r"(?<=\d)\.\d{3}(?:\\[!,] *\d{3})*\\[!,] *\d{1,3}(?!\d)")
_GROUPED = re.compile(r"(?<![\d.,])([1-9]\d{0,2})((?:,\d{3})+|(?: \d{3})+)(?![\d,])")
_MIXED = re.compile(r"(?<![\w.}/^_]) *(\d+) *(?:\\frac\{(\d+)\}\{(\d+)\}|(?<=\d )(\d+) */ *(\d+))(?![\d/!^])")
_REPEATING = re.compile(
    r"(?<![\d.])(\d{0,30})\.(?:(\d{0,30})\\(?:overline|bar|dot) ?(?:\{ ?(\d{1,30}) ?\}|(\d))|\((\d{1,30})\))(?![\d(])"
)
_GOES_ON = re.compile(r"(?<![\d.])(\d{1,9}\.\d{0,9}?)(\d{1,9}?)\2{2,9}(?:\.{3}|\\[lc]?dots(?![a-z]))")
# At most 15 digits, so that Decimal multiplies exactly.
_SIZED = re.compile(
    r"(?<![\w.,/])(\d{1,12}(?:\.\d{1,3})?) ?(\\(?:text[a-z]*|mbox|mathrm) ?\{ *)?"
    rf"({'|'.join(SIZES)})s?(?![a-z])( *\}})?"
)
_NAMED_BASE = re.compile(rf"_ ?\{{? ?(?:\\text ?\{{ *)?({'|'.join(sorted(_BASES, key=len, reverse=True))}) *\}}?\}}?")
_BRACKETED_DIGITS = re.compile(r"\((\d+)\)(?= ?_)")
_BEFORE_BASE = re.compile(r"(?<=\d) +(?=_)")
_BASE_TEN = re.compile(r"(?<![\w^{}\\])(\d+) ?_ ?(?:\{10\}|10(?!\d))")


def joined(text: str) -> str:
    r"""Remove the spacing inside numbers: `3,\!600`, `2{,}048`, `1'000`, `3.141\,592`."""
    text = _JOINED.sub(lambda number: number[1] + re.sub(r"\D", "", number[2]), text)
    return _JOINED_DECIMALS.sub(lambda number: "." + re.sub(r"\D", "", number[0]), text)


def ungrouped(text: str) -> str:
    """Remove commas and spaces between groups of three digits."""
    return _GROUPED.sub(lambda match: match[1] + re.sub(r"\D", "", match[2]), text)


def improper(text: str) -> str:
    r"""Write mixed numbers as one fraction: `1\frac12` is `\frac{3}{2}`."""
    return _MIXED.sub(_improper, text)


def _improper(mixed: re.Match[str]) -> str:
    whole, numerator, denominator = (int(part) for part in (mixed[1], mixed[2] or mixed[4], mixed[3] or mixed[5]))
    if numerator >= denominator:
        return mixed[0]
    return rf"\frac{{{whole * denominator + numerator}}}{{{denominator}}}"


def terminated(text: str) -> str:
    r"""Write repeating decimals as fractions: `0.1\overline{6}` and `0.1666...` are 15/90."""
    return _REPEATING.sub(_terminated, _GOES_ON.sub(r"\1\\overline{\2}", text))


def _terminated(number: re.Match[str]) -> str:
    whole, before, period = number[1], number[2] or "", number[3] or number[4] or number[5]
    denominator = (10 ** len(period) - 1) * 10 ** len(before)
    numerator = int(whole + before + period) - int(whole + before or 0)
    return rf"\frac{{{numerator}}}{{{denominator}}}"


def multiplied(text: str) -> str:
    r"""Multiply by the size in words: `5 million` is 5000000, `2\text{ dozen eggs}` is `24\text{ eggs}`."""
    return _SIZED.sub(_multiplied, text)


def _multiplied(sized: re.Match[str]) -> str:
    number = format(Decimal(sized[1]) * SIZES[sized[3]], "f")
    number = number.rstrip("0").rstrip(".") if "." in number else number
    command, closed = sized[2] or "", sized[4] or ""
    if command and closed:
        return number
    return f"{number}{command}{closed}" if command else f"{number}{closed}"


def in_base(text: str) -> str:
    r"""Write bases as digits, and base 10 not at all: `1011_{\text{two}}` and `(1011)_2` are `1011_2`."""
    text = _NAMED_BASE.sub(lambda base: f"_{{{_BASES[base[1]]}}}", _BEFORE_BASE.sub("", text))
    return _BASE_TEN.sub(r"\1", _BRACKETED_DIGITS.sub(r"\1", text))
