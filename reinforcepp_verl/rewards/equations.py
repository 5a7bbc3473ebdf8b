"""Reads what an equation states: `x = 5` and `2 + 3 = 5` state 5, `3x = 5` and `5 = 6` state no value."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import pairwise

Leaf = Callable[[str, str], bool | None]
"""Compares two single values; None if it cannot decide."""

_EQUALS = re.compile(r"(?<![<>:\\=])(?<!\D!)=(?!=)")
_APPROX = re.compile(r"\\(?:approx|thickapprox|simeq|doteq)(?![a-z])")
RELATION = re.compile(r"[<>≠]|\\(?:leq?|geq?|neq?|lt|gt|equiv|ll|gg|mid|leqslant|geqslant)(?![a-z])|(?<!\d)!=")
_FUNCTIONS = r"(?!\\?(?:sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|arc[a-z]*|lim|max|min|gcd|det|frac|sum|int)(?![a-z]))"
_NAME = (
    rf"(?:{_FUNCTIONS}\\?[a-zA-Z]+(?:_(?:\{{\w+\}}|\w(?!\w)))?'*(?:\^\{{?\*\}}?|\^\{{?-1\}}?(?= ?\())?"
    r"|\\(?:text|mathrm|mathbb)\{[^{}]*\})"
)
LABEL = re.compile(
    rf"{_NAME}(?: ?\([^()=]*(?:\([^()=]*\)[^()=]*)*\))?|\({_NAME}(?:, *{_NAME})*\)"
    rf"|\|[A-Z]{{2}}\||\\(?:angle|triangle|overline|vec|hat|bar|m ?\\angle) ?\{{?[A-Za-z]+\}}?"
    r"|\\frac\{[A-Z]{2}\}\{[A-Z]{2}\}|[A-Z]\w*(?:_\{\w+\})?:[A-Z]\w*(?:_\{\w+\})?"
    r"|(?:\\?[A-Z][a-z]{0,2}|\\mathbb\{E\}|)\[[A-Z]\w*\]|\\frac\{d\w\}\{d\w\}"
    r"|\\(?:sin|cos|tan|cot|sec|csc) ?(?:\\angle ?)?[A-Z]+"
    # The value of an operation: a limit, an integral, a sum, a greatest common divisor.
    r"|\\(?:lim|i{1,3}nt|sum|prod)_.+|\\(?:gcd|max|min|det|operatorname\{[a-z]+\}) ?\([^()]*\)"
)
# Lower-case words that name a value; other letters are a product: abc = 5.
_WORDS = (
    "angle|ans|answer|area|average|cost|count|degree|diameter|distance|height|length|mean|median|number|perimeter|price"
    "|probability|product|profit|radius|rate|ratio|result|size|slope|speed|sum|time|total|value|volume|weight|width|year"
)
_PRODUCT = re.compile(rf"(?!(?:{_WORDS})$)[a-z]{{2,}}")
_APPLIED = re.compile(r"(\\?[a-zA-Z]+)[^()]*\((.*)\)")
_KINDS = {
    "variable": re.compile(r"(?:[a-zA-Z]|\\(?:theta|alpha|beta|gamma|lambda|phi|omega))(?:_.+)?"),
    "segment": re.compile(r"[A-Z]{2}"),
    "function": re.compile(r"\\?[a-zA-Z]+'*\(.+\)"),
}
_FUNCTION_LETTER = re.compile(r"[f-hA-Z\\]")
_NUMERIC = re.compile(
    r"[\d\s.+*/^(){}!_-]|\\(?:frac|binom|cdot|times|sqrt|pi|log|ln|sin|cos|tan|[lr]floor|[lr]ceil)(?![a-z])"
)
_PLAIN = re.compile(r"[-+]?[\d.]+|\\frac\{\d+\}\{\d+\}")
# What a question asks for, as in "Find m + n". The coordinates x, y and z are as likely the equation of a line.
_SUM = re.compile(
    r"(?!.*([a-w]).*\1.*=)[a-df-hj-w](?: ?\+ ?[a-df-hj-w])+ ?=(?:[^=]*=)? ?(-?[\d.]+|-?\\frac\{\d+\}\{\d+\})"
)
OPENING, CLOSING = "([{", ")]}"


def value_of(text: str) -> tuple[str, str]:
    """Split `x = 5`, `f(x) = 5` or `x = 2 + 3 = 5` into the name, "" if there is none, and what is stated for it."""
    exact, *rounded = _APPROX.split(text)
    if rounded and not exact.strip():
        return "", rounded[-1].strip()
    parts = sides(exact)
    if len(parts) == 2 and _PLAIN.fullmatch(parts[0].strip()) and is_name(parts[1].strip()):
        parts.reverse()
    label = parts[0].strip()
    if len(parts) > 1 and label not in parts[1:] and is_name(label):
        return label, "=".join(parts[1:]).strip()
    if len(parts) == 1 and rounded and is_name(label):
        return label, rounded[0].strip()
    return "", text


def is_name(label: str) -> bool:
    """Return True for what names a value: not for a product, as in xy = 5 or x(x+1) = 5."""
    if not LABEL.fullmatch(label) or _PRODUCT.fullmatch(label):
        return False
    if not (applied := _APPLIED.fullmatch(label)):
        return True
    head, argument = applied.groups()
    return head not in argument and ("+" not in argument and "-" not in argument or bool(_FUNCTION_LETTER.match(head)))


def compare_values(truth: str, answer: str, leaf: Leaf) -> bool | None:
    """Compare two single values, of which either may be stated by an equation."""
    if (swapped := sides(truth)[::-1]) == sides(answer) and len(swapped) == 2:
        return True
    truth, answer = _value_of_sum(truth, answer), _value_of_sum(answer, truth)
    (expected_label, expected), (given_label, given) = value_of(truth), value_of(answer)
    if expected_label != given_label and (kind := _kind(expected_label)) and kind == _kind(given_label):
        return False
    if expected_label and given_label and _variables(expected) != _variables(given):
        return False
    if (expected_label or given_label) and (RELATION.search(expected) or RELATION.search(given)):
        return leaf(truth, answer)
    chains = [_chain(value, named) for value, named in ((expected, expected_label), (given, given_label))]
    if chains[0] and chains[1]:
        steps = [leaf(first, second) for chain in chains for first, second in pairwise(chain)]
        return all_of([leaf(chains[0][-1], chains[1][-1]), *steps])
    # An equation in unknowns states no value, but another may be equivalent: y = 2x + 1 and y - 2x = 1.
    if not (chains[0] or chains[1]) or expected_label or given_label:
        return leaf(truth, answer)
    return False


def _value_of_sum(text: str, other: str) -> str:
    """Return 17 for m + n = 17 if the other answer is a number."""
    return found[2] if _PLAIN.fullmatch(other) and (found := _SUM.fullmatch(text)) else text


def _variables(value: str) -> set[str]:
    """Return the further variables of x = y = 1, whose value is y = 1."""
    return {side.strip() for side in sides(value)[:-1] if _kind(side.strip()) == "variable"}


def _kind(label: str) -> str:
    """Return what a name stands for, "" if unclear: y = 2x and f(x) = 2x state the same, y = 2 and x = 2 do not."""
    return next((kind for kind, pattern in _KINDS.items() if pattern.fullmatch(label)), "")


def _chain(value: str, named: str) -> list[str]:
    """Return the sides of a chain such as 2 + 3 = 5, a plain value as one side; [] for an equation in unknowns.

    Of a named value, as in x = 2 + 3 = 5, only the last side counts, unless all are plain numbers: x = 4 = 5.
    """
    chain = [side.strip() for side in sides(value)]
    if named and not all(_PLAIN.fullmatch(side) for side in chain):
        return chain[-1:]
    if len(chain) == 1:
        return chain
    numbers = all(side and not _NUMERIC.sub("", side) for side in chain)
    return chain if numbers and len(set(chain)) == len(chain) else []


def all_of(verdicts: Iterable[bool | None]) -> bool | None:
    """Return False if any verdict is, None if any is undecided."""
    found = set()
    for verdict in verdicts:
        if verdict is False:
            return False
        found.add(verdict)
    return None if None in found else True


def sides(text: str) -> list[str]:
    """Split at equality signs outside brackets."""
    parts, start, depth = [], 0, 0
    for index, character in enumerate(text):
        depth += (character in OPENING) - (character in CLOSING)
        if depth == 0 and character == "=" and _EQUALS.match(text, index):
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]
