"""Detects answers that are too large for a computer algebra system, from their text alone and in linear time."""

from __future__ import annotations

import re

MAX_NESTING = 40
MAX_DIGITS = 400
MAX_POWERS = 60
_LARGEST = 10**18

_NUMBER = re.compile(r"\d+")
_LONG_NUMBER = re.compile(rf"\d[\d,.\s]{{{MAX_DIGITS},}}")
_POWER = re.compile(r"\^|\*\*")
_NUMERIC_POWER = re.compile(r"[\d)}\]]\s*(?:\^|\*\*)")
_RAISED = re.compile(r"\s*(?:\^|\*\*|!+)")
_TOKEN = re.compile(r"\s*[-+]?\s*(?:(?P<atom>\d[\d.]*|[a-zA-Z])|\\[a-zA-Z]+)?\s*")
_REPEATED_FACTORIAL = re.compile(r"!\s*[)}\]]*\s*!")
_FACTORIAL = re.compile(r"(\d+)\s*[)}\]]*\s*!")
_GROUP_FACTORIAL = re.compile(r"[)}\]]\s*!")
_BINOMIAL = re.compile(r"\\[dt]?binom|\\choose|\\operatorname\{C\}")


def too_large(text: str, max_chars: int, max_exponent: int) -> str:
    """Return why an answer is too large: `length`, `nesting`, `digits`, `exponent`, `factorial`; "" if it is not.

    The estimates are conservative: an exponent that contains a power counts as the power of all its numbers.
    """
    if len(text) > max_chars:
        return "length"
    if _depth(text) > MAX_NESTING:
        return "nesting"
    if _LONG_NUMBER.search(text):
        return "digits"
    powers = list(_POWER.finditer(text))
    if len(powers) > MAX_POWERS or any(_bound(_operand(text, power.end())) > max_exponent for power in powers):
        return "exponent"
    if _huge_factorial(text, max_exponent):
        return "factorial"
    return ""


def unbalanced(text: str) -> bool:
    """Return True if the braces of a LaTeX text do not match."""
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", text):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return True
    return depth != 0


def _depth(text: str) -> int:
    """Return the maximum nesting depth of brackets of all kinds, and of signs and roots, which need none."""
    depth = deepest = 0
    for character in text:
        if character in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]}":
            depth = max(depth - 1, 0)
    return max(deepest, *(len(run) for run in re.findall(r"(?:[-+|]\s*)+", text)), text.count("\\sqrt"), 0)


def _operand(text: str, start: int) -> str:
    """Return an exponent, including the exponents of exponents."""
    end = _token_end(text, start)
    while operator := _RAISED.match(text, end):
        end = _token_end(text, operator.end())
    return text[start:end]


def _token_end(text: str, start: int) -> int:
    """Return the end of a number, of a letter, or of bracketed groups with or without a command before them."""
    token = _TOKEN.match(text, start)
    end = token.end() if token else start
    if token and token["atom"]:
        return end
    depth = 0
    while end < len(text):
        if text[end] in "([{":
            depth += 1
        elif text[end] in ")]}":
            depth -= 1
        if depth < 0 or (depth == 0 and text[end] not in ")]}"):
            break
        end += 1
    return end


def _bound(operand: str) -> int:
    """Return a coarse upper bound of an exponent."""
    numbers = [_LARGEST if len(digits) > 18 else int(digits) for digits in _NUMBER.findall(operand)]
    if "!" in operand and any(number > 7 for number in numbers):
        return _LARGEST
    bound = 1
    if not _NUMERIC_POWER.search(operand):
        for number in numbers:
            bound = min(bound * max(number, 1), _LARGEST)
        return bound
    for number in reversed(numbers):
        # Anything above 1 raised to 60 or more exceeds every limit.
        bound = 1 if number <= 1 else _LARGEST if bound >= 60 else min(number**bound, _LARGEST)
    return bound


def _huge_factorial(text: str, largest: int) -> bool:
    if _REPEATED_FACTORIAL.search(text) and not re.fullmatch(r"\d{1,4}!!", text):
        return True
    if _GROUP_FACTORIAL.search(text) and _POWER.search(text):
        return True
    numbers = _FACTORIAL.findall(text) + (_NUMBER.findall(text) if _BINOMIAL.search(text) else [])
    return any(len(digits) > 18 or int(digits) > largest for digits in numbers)
