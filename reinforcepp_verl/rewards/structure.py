r"""Compares answers item by item: tuples in order, sets and lists in any order, equations by what they state."""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

from reinforcepp_verl.rewards.equations import (
    CLOSING,
    OPENING,
    RELATION,
    Leaf,
    all_of,
    compare_values,
    is_name,
    sides,
    value_of,
)
from reinforcepp_verl.rewards.inequalities import conjunctions_differ

_AND_COMMAND = re.compile(r"\\(?:text[a-z]*|mbox|mathrm) ?\{ *,? *(?:and|or) *\}")
_AND = re.compile(r"(?:and|or)(?![a-z])")
_LIST_OF_WORDS = re.compile(r"\\text\{((?:[A-Za-z]+ ?,? )+(?:and|or) [A-Za-z]+(?: [A-Za-z]+)*)\}")
_BETWEEN_WORDS = re.compile(r" ?, ?(?:(?:and|or) )?| (?:and|or) ")
_NAMED_POINT = re.compile(r"[A-Z](?=\(.*,.*\)$)")
_MEMBER = re.compile(r"(?P<label>[^,=<>]*?)\\in(?![a-z])")
_PLUS_MINUS = re.compile(r"\\(pm|mp)(?![a-z]) ?")
_NAMES = re.compile(r"\((?:[a-zA-Z](?:_\{?\w+\}?)?)(?: ?, ?[a-zA-Z](?:_\{?\w+\}?)?)+\)")
_SIMPLE = re.compile(r"[-+]?[\d.]+|[A-Za-z]|\\text\{[^{}]*\}")
_DEPTH = 4


class Parsed(NamedTuple):
    """An answer in parts. `kind`: `single`, `list`, `set`, or the two brackets of a tuple or an interval."""

    kind: str
    items: tuple[str, ...]


def compare(truth: str, answer: str, leaf: Leaf, depth: int = 0) -> bool | None:
    """Compare two normal forms; None if it depends on values that `leaf` cannot compare."""
    if truth == answer:
        return True
    named_points = all(_NAMED_POINT.match(text) for text in (truth, answer))
    if conjunctions_differ(truth, answer) or (named_points and truth[0] != answer[0]):
        return False
    expected, given = parse(truth), parse(answer)
    if expected.kind == given.kind == "single":
        return compare_values(expected.items[0], given.items[0], leaf)
    if depth == _DEPTH:
        return leaf(truth, answer)
    if "single" in (expected.kind, given.kind) or len(expected.items) != len(given.items):
        return _compare_unlike(truth, answer, expected, given, leaf)
    expected, given, labelled = _without_labels(expected, given)
    kinds = {expected.kind, given.kind}

    def compare_items(first: str, second: str) -> bool | None:
        return compare(first, second, leaf, depth + 1)

    if kinds <= {"list", "set"} or labelled:
        return _compare_unordered(expected.items, given.items, compare_items)
    if len(kinds) == 1 or ("list" in kinds and kinds & {"()", "[]"}):
        return all_of(compare_items(first, second) for first, second in zip(expected.items, given.items, strict=True))
    return False


def parse(text: str) -> Parsed:
    r"""Split an answer at its top-level commas, semicolons and "and"; `a \pm b` are two items."""
    if words := _LIST_OF_WORDS.fullmatch(text):
        return Parsed("list", tuple(rf"\text{{{item.strip()}}}" for item in _BETWEEN_WORDS.split(words[1])))
    text = _stated(_AND_COMMAND.sub(", ", text).replace(";", ",").strip(" ,"))
    if len(items := _split(text)) > 1:
        return Parsed("list", _without_repeated_points(_expanded(items)))
    kind, inside = _brackets(text)
    if kind == "set":
        items = list(dict.fromkeys(_expanded(_split(inside))))
        solution = len(items) == 1 and not items[0].startswith(r"\emptyset")
        return parse(items[0]) if solution else Parsed("set", tuple(items))
    if kind and len(items := _split(inside)) > 1:
        return Parsed(kind, tuple(items))
    expanded = _expanded([text])
    return Parsed("single" if len(expanded) == 1 else "list", expanded)


def _stated(text: str) -> str:
    r"""Remove `x \in` and the name of a whole list, `x = 1, 2` or `(x, y) = (1, 2)`."""
    if (member := _MEMBER.match(text)) and is_name(member["label"].strip()):
        text = text[member.end() :].strip()
    text = _NAMED_POINT.sub("", text)
    parts = sides(text)
    if len(parts) == 2 and _NAMES.fullmatch(parts[0].strip()):
        return _each_named(parts[0].strip(), parts[1].strip())
    if len(parts) == 2 and is_name(parts[0].strip()) and (len(_split(parts[1])) > 1 or _brackets(parts[1])[0]):
        return parts[1].strip()
    return text


def _each_named(names: str, values: str) -> str:
    """Return `(x = 1, y = 2)` for `(x, y) = (1, 2)`."""
    kind, inside = _brackets(values)
    labels, items = names[1:-1].split(","), _split(inside)
    if kind != "()" or len(labels) != len(items):
        return values
    return f"({', '.join(f'{label.strip()}={item}' for label, item in zip(labels, items, strict=True))})"


def _compare_unlike(truth: str, answer: str, expected: Parsed, given: Parsed, leaf: Leaf) -> bool | None:
    r"""Compare one value with several, or lists of different length: (0, 1) may be 0 < x < 1, but 5 is not 5, 6."""
    whole = (truth, answer)
    for parsed, text in ((expected, truth), (given, answer)):
        if parsed.kind == "single" and (_SIMPLE.fullmatch(parsed.items[0]) or not _may_be_several(text)):
            return False
    if "single" in (expected.kind, given.kind) or any(len(sides(text)) > 1 for text in whole):
        return leaf(*whole)
    return False


def _may_be_several(text: str) -> bool:
    return bool(RELATION.search(text) or re.search(r"\\(?:cup|cap|setminus|in|begin|mid|mathbb|infty)|=|\|", text))


def _without_labels(expected: Parsed, given: Parsed) -> tuple[Parsed, Parsed, bool]:
    """Remove the names of items where they tell nothing: on one side only, or the same name throughout.

    Also returns whether the names were kept. Beside a point, `y = 2, x = 3` is read in the order of its names.
    """
    names = [{label for item in parsed.items if (label := value_of(item)[0])} for parsed in (expected, given)]
    if all(len(labels) == len(parsed.items) > 1 for labels, parsed in zip(names, (expected, given), strict=True)):
        return expected, given, True
    in_order = [_in_order(parsed, other) for parsed, other in ((expected, given), (given, expected))]
    first, second = (Parsed(parsed.kind, tuple(value_of(item)[1] for item in parsed.items)) for parsed in in_order)
    return first, second, False


def _in_order(parsed: Parsed, other: Parsed) -> Parsed:
    names = [value_of(item)[0] for item in parsed.items]
    if parsed.kind != "list" or other.kind != "()" or not all(names) or len(set(names)) < len(names):
        return parsed
    return Parsed(parsed.kind, tuple(item for _, item in sorted(zip(names, parsed.items, strict=True))))


def _compare_unordered(expected: tuple[str, ...], given: tuple[str, ...], compare_items: Leaf) -> bool | None:
    """Find a different partner for every item, first among those with the same text."""
    same = Counter(expected) & Counter(given)
    left, undecided = list((Counter(given) - same).elements()), False
    for item in (Counter(expected) - same).elements():
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


def _split(text: str) -> list[str]:
    """Split at commas and conjunctions outside brackets."""
    parts, start, depth = [], 0, 0
    for index, character in enumerate(text):
        depth += (character in OPENING) - (character in CLOSING)
        if depth == 0 and index >= start and (end := _separator_end(text, index)):
            parts.append(text[start:index])
            start = end
    return [part for item in (*parts, text[start:]) if (part := item.strip())]


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
        depth += (character in OPENING) - (character in CLOSING)
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
