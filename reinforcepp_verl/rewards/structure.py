r"""Compares answers item by item: tuples in order, sets and lists in any order, equations by what they state."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple

Leaf = Callable[[str, str], bool | None]
"""Compares two single values; None if it cannot decide."""

_AND_COMMAND = re.compile(r"\\(?:text[a-z]*|mbox|mathrm) ?\{ *,? *(?:and|or) *\}")
_AND = re.compile(r"(?:and|or)(?![a-z])")
_MEMBER = re.compile(r"(?P<label>[^,=<>]*?)\\in(?![a-z])")
_EQUALS = re.compile(r"(?<![<>!:\\=])=(?!=)")
_APPROX = re.compile(r"\\(?:approx|thickapprox|simeq|doteq)(?![a-z])")
_RELATION = re.compile(r"[<>≠]|\\(?:leq?|geq?|neq?|lt|gt|equiv|ll|gg|mid|leqslant|geqslant)(?![a-z])|!=")
_FUNCTIONS = r"(?!\\?(?:sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|arc[a-z]*|lim|max|min|gcd|det|frac|sum|int)(?![a-z]))"
_NAME = r"(?:" + _FUNCTIONS + r"\\?[a-zA-Z]+(?:_\{?\w+\}?|')*|\\(?:text|mathrm)\{[^{}]*\})"
_LABEL = re.compile(
    rf"{_NAME}(?: ?\([^()=]*(?:\([^()=]*\)[^()=]*)*\))?|\({_NAME}(?:, *{_NAME})*\)"
    rf"|\|[A-Z]{{2}}\||\\(?:angle|triangle|overline|vec|hat|bar|m ?\\angle) ?\{{?[A-Za-z]+\}}?"
    r"|\\frac\{[A-Z]{2}\}\{[A-Z]{2}\}|[A-Z]\w*(?:_\{\w+\})?:[A-Z]\w*(?:_\{\w+\})?"
)
_PRODUCT = re.compile(r"[a-z]{2}")
_PLUS_MINUS = re.compile(r"\\(pm|mp)(?![a-z]) ?")
_NUMERIC = re.compile(r"[\d\s.+*/^(){}-]|\\(?:frac|cdot|times|sqrt|pi)(?![a-z])")
_SIMPLE = re.compile(r"[-+]?[\d.]+|[A-Za-z]|\\text\{[^{}]*\}")
_OPENING, _CLOSING = "([{", ")]}"
_DEPTH = 4


class Parsed(NamedTuple):
    """An answer in parts. `kind`: `single`, `list`, `set`, or the two brackets of a tuple or an interval."""

    kind: str
    items: tuple[str, ...]


def compare(truth: str, answer: str, leaf: Leaf, depth: int = 0) -> bool | None:
    """Compare two normal forms; None if it depends on values that `leaf` cannot compare."""
    if truth == answer:
        return True
    expected, given = parse(truth), parse(answer)
    if expected.kind == given.kind == "single":
        return _compare_singles(expected.items[0], given.items[0], leaf)
    if depth == _DEPTH:
        return leaf(truth, answer)
    if "single" in (expected.kind, given.kind) or len(expected.items) != len(given.items):
        return _compare_unlike(truth, answer, expected, given, leaf)
    expected, given = _without_labels(expected, given)
    kinds = {expected.kind, given.kind}

    def compare_items(first: str, second: str) -> bool | None:
        return compare(first, second, leaf, depth + 1)

    if kinds <= {"list", "set"}:
        return _compare_unordered(expected.items, given.items, compare_items)
    if len(kinds) == 1 or ("list" in kinds and kinds & {"()", "[]"}):
        return _all(compare_items(first, second) for first, second in zip(expected.items, given.items, strict=True))
    return False


def parse(text: str) -> Parsed:
    r"""Split an answer at its top-level commas, semicolons and "and"; `a \pm b` are two items."""
    text = _stated(_AND_COMMAND.sub(", ", text).replace(";", ",").strip(" ,"))
    if len(items := _split(text)) > 1:
        return Parsed("list", _without_repeated_points(_expanded(items)))
    kind, inside = _brackets(text)
    if kind == "set":
        return Parsed("set", tuple(dict.fromkeys(_expanded(_split(inside)))))
    if kind and len(items := _split(inside)) > 1:
        return Parsed(kind, tuple(items))
    expanded = _expanded([text])
    return Parsed("single" if len(expanded) == 1 else "list", expanded)


def value_of(text: str) -> tuple[str, str]:
    """Split `x = 5`, `f(x) = 5` or `x = 2 + 3 = 5` into the name, "" if there is none, and the value stated for it."""
    sides = _sides(_APPROX.split(text)[0])
    label = sides[0].strip()
    if len(sides) > 1 and label not in sides[1:] and _LABEL.fullmatch(label) and not _is_product(label):
        return label, sides[-1].strip()
    if len(sides) == 1 and _APPROX.search(text) and _LABEL.fullmatch(sides[0].strip()):
        return sides[0].strip(), _APPROX.split(text)[1].strip()
    return "", text


def _is_product(label: str) -> bool:
    """Return True for two letters: xy = 5 states a product."""
    return bool(_PRODUCT.fullmatch(label))


def _stated(text: str) -> str:
    r"""Remove `x \in` and the name of a whole list, `x = 1, 2` or `(x, y) = (1, 2)`."""
    if (member := _MEMBER.match(text)) and _LABEL.fullmatch(member["label"].strip()):
        text = text[member.end() :].strip()
    sides = _sides(text)
    if len(sides) == 2 and _LABEL.fullmatch(sides[0].strip()) and (len(_split(sides[1])) > 1 or _brackets(sides[1])[0]):
        return sides[1].strip()
    return text


def _compare_singles(truth: str, answer: str, leaf: Leaf) -> bool | None:
    """Compare values of which either may be stated by an equation."""
    (expected_label, expected), (given_label, given) = value_of(truth), value_of(answer)
    states = [len(_sides(text)) > 1 for text in (expected, given)]
    if states == [False, False]:
        if (expected_label or given_label) and (_RELATION.search(expected) or _RELATION.search(given)):
            return leaf(truth, answer)
        return leaf(expected, given)
    if all(states):
        return leaf(truth, answer)
    equation, other = (expected, given) if states[0] else (given, expected)
    if expected_label or given_label:
        return leaf(truth, answer)
    return _compare_with_chain(equation, other, leaf, equation_is_truth=states[0])


def _compare_with_chain(equation: str, value: str, leaf: Leaf, *, equation_is_truth: bool) -> bool | None:
    """Compare a value with a chain such as 2 + 3 = 5, which states 5; equations in unknowns state no value."""
    sides = [side.strip() for side in _sides(equation)]
    if not all(side and not _NUMERIC.sub("", side) for side in sides) or len(set(sides)) < len(sides):
        return False
    ordered = (sides[-1], value) if equation_is_truth else (value, sides[-1])
    return _all([leaf(*ordered), *(leaf(first, second) for first, second in pairwise(sides))])


def _compare_unlike(truth: str, answer: str, expected: Parsed, given: Parsed, leaf: Leaf) -> bool | None:
    r"""Compare one value with several, or lists of different length: (0, 1) may be 0 < x < 1, but 5 is not 5, 6."""
    whole = (truth, answer)
    for parsed, text in ((expected, truth), (given, answer)):
        if parsed.kind == "single" and (_SIMPLE.fullmatch(parsed.items[0]) or not _may_be_several(text)):
            return False
    if "single" in (expected.kind, given.kind) or any(len(_sides(text)) > 1 for text in whole):
        return leaf(*whole)
    return False


def _may_be_several(text: str) -> bool:
    return bool(_RELATION.search(text) or re.search(r"\\(?:cup|cap|setminus|in|begin|mid|mathbb|infty)|=|\|", text))


def _without_labels(expected: Parsed, given: Parsed) -> tuple[Parsed, Parsed]:
    """Remove the names of items where they tell nothing: on one side only, or the same name throughout."""
    values = []
    for parsed in (expected, given):
        named = [value_of(item) for item in parsed.items]
        values.append((parsed, {label for label, _ in named if label}, [value for _, value in named]))
    informative = all(len(labels) == len(parsed.items) > 1 for parsed, labels, _ in values)
    if informative:
        return expected, given
    first, second = (Parsed(parsed.kind, tuple(items)) for parsed, _, items in values)
    return first, second


def _compare_unordered(expected: tuple[str, ...], given: tuple[str, ...], compare_items: Leaf) -> bool | None:
    """Find a different partner for every item."""
    left, undecided = list(given), False
    for item in expected:
        verdicts = [_with_label(item, other, compare_items) for other in left]
        if True in verdicts:
            left.pop(verdicts.index(True))
        elif None in verdicts:
            undecided = True
        else:
            return False
    return None if undecided else True


def _without_repeated_points(items: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items)) if all(item.startswith("(") for item in items) else items


def _with_label(first: str, second: str, compare_items: Leaf) -> bool | None:
    (first_label, _), (second_label, _) = value_of(first), value_of(second)
    if first_label and second_label and first_label != second_label:
        return False
    return compare_items(first, second)


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    found = set()
    for verdict in verdicts:
        if verdict is False:
            return False
        found.add(verdict)
    return None if None in found else True


def _split(text: str) -> list[str]:
    """Split at commas and conjunctions outside brackets."""
    parts, start, depth = [], 0, 0
    for index, character in enumerate(text):
        depth += (character in _OPENING) - (character in _CLOSING)
        if depth == 0 and index >= start and (end := _separator_end(text, index)):
            parts.append(text[start:index])
            start = end
    return [part for item in (*parts, text[start:]) if (part := item.strip())]


def _sides(text: str) -> list[str]:
    """Split at equality signs outside brackets."""
    sides, start, depth = [], 0, 0
    for index, character in enumerate(text):
        depth += (character in _OPENING) - (character in _CLOSING)
        if depth == 0 and character == "=" and _EQUALS.match(text, index):
            sides.append(text[start:index])
            start = index + 1
    return [*sides, text[start:]]


def _separator_end(text: str, index: int) -> int:
    """Return where a separator at `index` ends, 0 if there is none."""
    if text[index] == ",":
        return index + 1
    after_word = index > 0 and (text[index - 1].isalpha() or text[index - 1] == "\\")
    conjunction = None if after_word else _AND.match(text, index)
    return conjunction.end() if conjunction else 0


def _brackets(text: str) -> tuple[str, str]:
    r"""Return the kind of the brackets around the whole, "" if there are none, and what they enclose."""
    text = text.strip()
    if text.startswith(r"\{") and text.endswith(r"\}") and text.find(r"\}") == len(text) - 2:
        inside = text[2:-2]
        return ("", text) if re.search(r"\\mid|[|:]", inside) else ("set", inside)
    if not text or text[0] not in "([" or text[-1] not in ")]":
        return "", text
    depth = 0
    for index, character in enumerate(text):
        depth += (character in _OPENING) - (character in _CLOSING)
        if depth == 0:
            return (text[0] + text[-1], text[1:-1]) if index == len(text) - 1 else ("", text)
    return "", text


def _expanded(items: list[str]) -> tuple[str, ...]:
    r"""Replace an item with one `\pm` by its two values."""
    expanded: list[str] = []
    for item in items:
        signs = _PLUS_MINUS.findall(item)
        if len(signs) == 1:
            expanded.extend(_PLUS_MINUS.sub(sign, item).removeprefix("+") for sign in "+-")
        else:
            expanded.append(item)
    return tuple(expanded)
