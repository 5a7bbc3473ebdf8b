r"""Writes inequalities in one variable as intervals: `-1 \leq x < 2` is `[-1, 2)`, `x < 1 or x > 3` a union."""

from __future__ import annotations

import re

_OPERATOR = r"\\(?:leqslant|leq|le|lt|geqslant|geq|ge|gt)(?![a-z])|[<>]"
_SPLIT = re.compile(rf" ?({_OPERATOR}) ?")
_VARIABLE = re.compile(r"[a-zA-Z]|\\(?:theta|alpha|beta|lambda|phi)")
_NOT_EQUAL = re.compile(r"([a-zA-Z]|\\theta) ?(?:\\neq?(?![a-z])|!=) ?([^,<>=]+)")
_REALS_WITHOUT = re.compile(r"\\mathbb\{R\} ?(?:\\setminus|\\backslash|-) ?\\\{ ?([^{},]+|\\frac\{\d+\}\{\d+\}) ?\\\}")
_MEMBER = re.compile(r"[a-zA-Z] ?\\in(?![a-z]) ?")
_AND = re.compile(r" ?(?:\\(?:text|mathrm|mbox) ?\{ *and *\}|(?<![a-zA-Z\\])and(?![a-z])|\\land(?![a-z])) ?")
_DECIMAL = re.compile(r"-?\d+(?:\.\d+)?")
_OR = re.compile(r" ?(?:\\(?:text|mathrm|mbox) ?\{ *or *\}|(?<![a-zA-Z\\])or(?![a-z])|\\lor(?![a-z])|\\cup(?![a-z])) ?")
_BUILDER = re.compile(
    r"\\\{ ?([a-zA-Z])(?: ?\\in ?(?:\\mathbb\{R\}|\(-\\infty, \\infty\)))? ?(?:\\mid|\\vert|:|\|) ?(.*)\\\}"
)
_INTERVAL = re.compile(r"[(\[][^()\[\]]*(?:\([^()]*\)[^()\[\]]*)*,.*[)\]]")


def is_interval(text: str) -> bool:
    r"""Return True for `(0, 1]` and for unions of such."""
    return all(_INTERVAL.fullmatch(part.strip()) for part in re.split(r"\\cup(?![a-z])", text))


def condition(text: str) -> str:
    r"""Return the condition of a set, `x > 5` for `\{x \mid x > 5\}`, and the set of `x \in (1, 2)`."""
    if without := _REALS_WITHOUT.fullmatch(text):
        return _without(without[1])
    if (member := _MEMBER.match(text)) and is_interval(text[member.end() :]):
        return text[member.end() :]
    builder = _BUILDER.fullmatch(text)
    states = builder and (_SPLIT.search(builder[2]) or _NOT_EQUAL.fullmatch(builder[2]))
    return builder[2].strip() if builder and states else text


def conjunctions_differ(truth: str, answer: str) -> bool:
    """Return True for inequalities joined by "and" on one side and by "or" on the other."""
    if not (_SPLIT.search(truth) and _SPLIT.search(answer)):
        return False
    expected, given = ((bool(_AND.search(text)), bool(_OR.search(text))) for text in (truth, answer))
    return any(expected) and any(given) and expected != given


def as_interval(text: str) -> str:
    """Return inequalities in one variable as an interval or a union, any other text as it is."""
    return _set_of(text)[1] or text


def as_intervals(first: str, second: str) -> tuple[str, str]:
    """Return two conditions on the same variable as intervals, if one of them is joined of two: x > 1 and x < 3."""
    if not any(_AND.search(text) or _OR.search(text) for text in (first, second)):
        return first, second
    sets = _set_of(first), _set_of(second)
    same = all(interval for _, interval in sets) and sets[0][0] == sets[1][0]
    return (sets[0][1], sets[1][1]) if same else (first, second)


def _set_of(text: str) -> tuple[str, str]:
    """Return the variable of inequalities and where they hold, ("", "") if that is unclear."""
    if different := _NOT_EQUAL.fullmatch(text):
        return different[1], _without(different[2])
    parts = [_intersection(_AND.split(part)) for part in _OR.split(text)]
    variables = {variable for variable, _ in parts}
    if len(variables) > 1 or not all(interval for _, interval in parts):
        return "", ""
    return parts[0][0], r"\cup ".join(interval for _, interval in parts)


def _without(value: str) -> str:
    return rf"(-\infty, {value})\cup ({value}, \infty)"


def _intersection(conditions: list[str]) -> tuple[str, str]:
    """Return the variable, and where both of `x > 1` and `x < 3` hold; ("", "") for anything else but one interval."""
    parts = [_interval(condition) for condition in conditions]
    if len(parts) == 1:
        return parts[0]
    above = [interval for _, interval in parts if interval.endswith(r", \infty)")]
    below = [interval for _, interval in parts if interval.startswith(r"(-\infty, ")]
    if len(parts) != 2 or len(above) != 1 or len(below) != 1 or parts[0][0] != parts[1][0]:
        return "", ""
    low, high = above[0].removesuffix(r"\infty)"), below[0].removeprefix(r"(-\infty, ")
    if _DECIMAL.fullmatch(low[1:-2]) and _DECIMAL.fullmatch(high[:-1]) and float(low[1:-2]) >= float(high[:-1]):
        return "", ""
    return parts[0][0], low + high


def _interval(text: str) -> tuple[str, str]:
    parts = [part.strip() for part in _SPLIT.split(text)]
    values, operators = parts[::2], parts[1::2]
    if len(values) not in (2, 3) or not all(values):
        return "", ""
    rising = ["<" in operator or r"\l" in operator for operator in operators]
    if len(set(rising)) > 1:
        return "", ""
    if not rising[0]:
        values, operators = values[::-1], operators[::-1]
    closed = ["e" in operator for operator in operators]
    if len(values) == 3 and _VARIABLE.fullmatch(values[1]):
        return values[1], _written(values[0], closed[0], values[2], closed[1])
    if len(values) == 2 and _VARIABLE.fullmatch(values[0]) and not _VARIABLE.fullmatch(values[1]):
        return values[0], _written(r"-\infty", False, values[1], closed[0])
    if len(values) == 2 and _VARIABLE.fullmatch(values[1]) and not _VARIABLE.fullmatch(values[0]):
        return values[1], _written(values[0], closed[0], r"\infty", False)
    return "", ""


def _written(low: str, low_closed: bool, high: str, high_closed: bool) -> str:
    return f"{'[' if low_closed else '('}{low}, {high}{']' if high_closed else ')'}"
