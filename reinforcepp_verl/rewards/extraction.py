r"""Extracts the answer of a solution: the last `\boxed{}`, the number after `####` or, optionally, the last number."""

from __future__ import annotations

import re
from typing import NamedTuple

from reinforcepp_verl.config.math_reward_options import MathRewardOptions

# JSON may have doubled the backslash of a box. `\{` and the like are text, not braces.
_BRACE = re.compile(r"\\{1,2}(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w.)])[-+−])?\s?\$?"
    r"(?P<digits>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?(?:/\d+)?|(?<!\d)\.\d+)"
)
_HASHES = "####"
_GROUPED = re.compile(r"(?<![\w.,])\d{1,3}(?: \d{3})+(?!\w|[.,/]\d)")
# Makes a number part of an expression. A unit may follow a space, and `12\%`, `\(12\)` and `**12**` are 12.
_BEFORE = re.compile(r"(?:[\^_!/A-Za-zπ√{]|(?<!\\)\(|\\(?:sqrt|pi) ?|[\w)}]\*{1,2}|[\w)}] ?[-+])$")
_LOOK_BACK = 8
_AFTER = re.compile(
    r"[\^_!/({A-Za-zπ√]|:\d|\\(?![%$)\],;! ]|text|mathrm|mbox)"
    r"| ?(?:\*\*?|[-+−×·÷^:/]) ?[\d\\(.]|\*\*?[\w(]|[ \t]+[-+]?\.?\d"
)


class Answer(NamedTuple):
    """The answer found in a text, "" if there is none, and how it was marked."""

    text: str
    form: str
    """`boxed`, `hashes`, `number` or `none`."""

    @property
    def formatted(self) -> bool:
        """True if the text marks it as its answer."""
        return self.form in ("boxed", "hashes")


def extract_answer(
    solution: str, last_number: bool = False, searched_chars: int = MathRewardOptions.searched_chars
) -> Answer:
    r"""Find the answer in the last `searched_chars` characters, in linear time.

    The last `\boxed{` that is closed counts; of nested boxes, the outermost.
    """
    tail = solution[-searched_chars:]
    if (boxed := _last_box(tail)) is not None:
        return Answer(boxed, "boxed")
    _, hashes, after = tail.rpartition(_HASHES)
    if hashes and (number := _NUMBER.search(after := _GROUPED.sub(_joined, after))):
        return Answer("", "none") if _in_expression(after, number) else Answer(_plain(number), "hashes")
    if last_number and (numbers := list(_NUMBER.finditer(tail))):
        return Answer(_plain(numbers[-1]), "number")
    return Answer("", "none")


def _last_box(text: str) -> str | None:
    """Return the content of the box that closes last."""
    open_braces: list[re.Match[str]] = []
    boxes: list[tuple[int, int, int]] = []  # positions of command, content and closing brace
    for token in _BRACE.finditer(text):
        if token.group().endswith("{") and token.group() != r"\{":
            open_braces.append(token)
        elif token.group() == "}" and open_braces:
            opened = open_braces.pop()
            if opened.group() != "{":
                boxes.append((opened.start(), opened.end(), token.start()))
    if not boxes:
        return None
    _, start, end = boxes.pop()
    # `\boxed{\boxed{5}}` is 5, but `\boxed{\boxed{5} or \boxed{6}}` stays as it is.
    while boxes and boxes[-1][0] >= start and not (text[start : boxes[-1][0]] + text[boxes[-1][2] + 1 : end]).strip():
        _, start, end = boxes.pop()
    return text[start:end].strip()


def _in_expression(text: str, number: re.Match[str]) -> bool:
    """Return True if a number is part of a larger expression, as in 10^3, 2x or 1 1/2, and not the answer."""
    priced = "$" in number.group()
    start = number.end() - len(number.group().lstrip())
    before = text[max(start - _LOOK_BACK, 0) : start]
    return bool(_AFTER.match(text, number.end()) or (not priced and _BEFORE.search(before)))


def _joined(number: re.Match[str]) -> str:
    return number.group().replace(" ", "")


def _plain(number: re.Match[str]) -> str:
    """Return a number without its currency sign and thousands separators."""
    sign = "-" if number["sign"] in ("-", "−") else ""
    return sign + number["digits"].replace(",", "")
