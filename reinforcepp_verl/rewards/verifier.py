"""Compares an answer with the ground truth: as text and plain numbers, then by math-verify in a worker process."""

from __future__ import annotations

import logging
import re
from fractions import Fraction
from functools import cache
from typing import Any, NamedTuple

from reinforcepp_verl.rewards.answer_words import words_differ
from reinforcepp_verl.rewards.expression_limits import MAX_DIGITS, too_large, unbalanced
from reinforcepp_verl.rewards.extraction import extract_answer
from reinforcepp_verl.rewards.failures import NO_GROUND_TRUTH


class VerifyResult(NamedTuple):
    """Whether an answer is correct and, if it could not be compared, why not."""

    correct: bool
    reason: str = ""


NOT_PARSED, GROUND_TRUTH_NOT_PARSED = "not parsed", "ground truth not parsed"
_SPACES = re.compile(r"\\(?:q?quad|[,;:! ])|\\\s|~|\s+")
_DROPPED = re.compile(r"\\(?:left|right|displaystyle|bigl?|bigr?)(?![a-zA-Z])|\\?\$|\\\(|\\\)")
_FRACTION_COMMAND = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
_WHOLE_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mbox|textnormal)\s*\{([^{}]*)\}")
_GROUPED = re.compile(r"(?<![\d.,])([1-9]\d{0,2})((?:,\d{3})+|(?: \d{3})+|(?:\{,\}\d{3})+)(?![\d,])")
_BRACKET = re.compile(r"[(\[]|\\\{")
_PERCENT = re.compile(r"\s*(?:\\?%|\bpercent(?:age)?\b|\bpct\b)$", re.IGNORECASE)
_DECIMAL = r"(?:\d+\.?\d*|\.\d+)"
_NUMBER = re.compile(rf"[-+]?(?:{_DECIMAL}(?:[eE][-+]?\d{{1,3}})?|\d+/\d+|\\frac\{{\d+\}}\{{\d+\}})")
_UNIT = re.compile(rf"([-+]?{_DECIMAL}) ((?!percent|pct)[A-Za-z]{{3,}})")
_CHOICE = re.compile(r"\(([A-Za-z])\)")
# Two letters are as likely a product, whose factors may be in any order.
_WORDS = re.compile(r"\\text\{([^{}]*)\}|([A-Za-z]{3,}|[Nn]o|[Oo]n)")
_APART = re.compile(r"\d\s+\d")
_ENDLESS = re.compile(r"(?<![\d.])\d+\\[lc]?dots")
_BASE = re.compile(r"\d_\{?(\w+)")


def normal_form(answer: str) -> str:
    r"""Remove parts of an answer without meaning: `\left`, `$`, spaces, thousands separators, a final period."""
    text = _SPACES.sub(" ", _DROPPED.sub("", answer.replace("−", "-")).replace(r"\\", "\0")).replace("\0", r"\\")
    text = _FRACTION_COMMAND.sub(r"\\frac", text).strip()
    if whole := _WHOLE_TEXT.fullmatch(text):
        words = whole[1].strip().rstrip(".")
        if len(words) > 1 and words.replace(" ", "").isalpha():
            return rf"\text{{{words}}}"
        text = words
    text = text.rstrip(".").strip()
    if not _BRACKET.search(text):  # (12,102) is a point
        text = _GROUPED.sub(lambda match: match[1] + re.sub(r"\D", "", match[2]), text)
    text = _UNIT.sub(r"\1\\text{\2}", text) if _UNIT.fullmatch(text) else text
    text = _CHOICE.sub(r"\1", text) if _CHOICE.fullmatch(text) else text
    # A space between two word characters separates them: 1 2 is not 12.
    return re.sub(r" (?=\W)|(?<=\W) ", "", text).replace(",", ", ")


def compare_plain(truth: str, answer: str) -> VerifyResult | None:
    """Compare two normal forms as text and as plain numbers; None if that does not decide it."""
    if not truth:
        return VerifyResult(False, NO_GROUND_TRUTH)
    if not answer:
        return VerifyResult(False, "no answer")
    if truth == answer:
        return VerifyResult(True)
    if (decided := _compare_words(truth, answer)) is not None:
        return VerifyResult(decided)
    (expected, truth_percent), (given, answer_percent) = _number(truth), _number(answer)
    if expected is None or given is None:
        return None
    if truth_percent == answer_percent:
        return VerifyResult(_close(expected, given) if "." in truth + answer else expected == given)
    # Data sets write percentages with and without the sign: 28% occurs as 28 as often as 0.28.
    percent, plain = (expected, given) if truth_percent else (given, expected)
    return VerifyResult(_close(percent, plain) or _close(percent / 100, plain))


def compare(truth: str, answer: str) -> VerifyResult:
    """Compare two normal forms with math-verify, which may hang, crash or exhaust memory: run it in a worker."""
    expected, given = _parsed(truth), _parsed(answer)
    if not expected:
        return VerifyResult(False, GROUND_TRUTH_NOT_PARSED)
    return _verified(expected, given) or VerifyResult(False, NOT_PARSED)


def _parsed(text: str) -> list:
    """Parse a normal form with math-verify; [] if it cannot, which it signals with many kinds of exceptions."""
    parse, _, configs = _math_verify()
    try:
        return parse(rf"\boxed{{{text}}}", configs, parsing_timeout=None, raise_on_error=True)
    except MemoryError:  # the limit of the worker
        raise
    except Exception:
        return []


def _verified(expected: list, given: list) -> VerifyResult | None:
    """Compare two parsed answers; None if math-verify cannot, as above."""
    _, verify, _ = _math_verify()
    try:
        if not given:
            return None
        if _false_equation(given[0]):
            return VerifyResult(False)
        equal = verify(expected, given, timeout_seconds=None, raise_on_error=True)
        return VerifyResult(bool(equal and not _only_both_tiny(expected[0], given[0])))
    except MemoryError:
        raise
    except Exception:
        return None


def reject_unsafe(truth: str, answer: str, max_chars: int, max_exponent: int) -> VerifyResult | None:
    """Refuse inputs that math-verify would hang on or misread; None for all others."""
    for text, whose, not_parsed in ((answer, "answer", NOT_PARSED), (truth, "ground truth", GROUND_TRUTH_NOT_PARSED)):
        if reason := too_large(text, max_chars, max_exponent):
            return VerifyResult(False, f"{whose} too large: {reason}")
        if unbalanced(text):
            return VerifyResult(False, not_parsed)
    # math-verify adds separate numbers (1 2 is 3), drops bases (10_2 is 10) and dots (5\ldots is 5), and sorts sets
    # ({2, 1} is the point (1, 2)).
    if _APART.search(answer) and not _APART.search(truth):
        return VerifyResult(False)
    if truth.startswith("(") and answer.startswith(r"\{"):
        return VerifyResult(False)
    if _BASE.findall(answer) != _BASE.findall(truth) or words_differ(truth, answer):
        return VerifyResult(False)
    return VerifyResult(False) if bool(_ENDLESS.search(answer)) != bool(_ENDLESS.search(truth)) else None


def ground_truth_answer(truth: str) -> str:
    r"""Return the answer in a ground truth: its last `\boxed{}` or the part after `####`, else all of it."""
    found = extract_answer(truth)
    return truth.rpartition("####")[2].strip() if found.form == "none" else found.text


def _compare_words(truth: str, answer: str) -> bool | None:
    """Compare words as words; math-verify reads them as products of letters, so that "not" equals "ton"."""
    words = [match for text in (truth, answer) if (match := _WORDS.fullmatch(text))]
    if not any(match[1] for match in words) and len(words) < 2:
        return None
    expected, given = (_WORDS.sub(lambda match: match[1] or match[2], text).lower() for text in (truth, answer))
    return expected == given


def _number(text: str) -> tuple[Fraction | None, bool]:
    """Parse a plain number, and return whether it is a percentage."""
    stripped = _PERCENT.sub("", text)
    if len(stripped) > MAX_DIGITS or not _NUMBER.fullmatch(stripped):
        return None, False
    numerator, _, denominator = re.sub(r"\\frac\{(\d+)\}\{(\d+)\}", r"\1/\2", stripped).partition("/")
    if denominator and not int(denominator):
        return None, False
    return Fraction(numerator) / int(denominator or 1), stripped != text


def _close(expected: Fraction, given: Fraction) -> bool:
    """Compare integers exactly and others rounded to 6 decimals, as math-verify does, and also to 6 digits."""
    if expected.denominator == given.denominator == 1:
        return expected == given
    apart = abs(expected - given)
    return apart <= Fraction(1, 10**6) and apart <= abs(expected) * Fraction(5, 10**6)


@cache
def _math_verify() -> tuple[Any, Any, Any]:
    from math_verify import LatexExtractionConfig, parse, verify  # takes 0.4 s, in workers only

    # It warns that its own time limits are off; ours kills the process instead.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    return parse, verify, (LatexExtractionConfig(boxed_match_priority=0),)


def _false_equation(expression: Any) -> bool:
    """Return True if an answer equates two different numbers: math-verify only checks the right side."""
    from sympy import Eq

    return isinstance(expression, Eq) and not expression.free_symbols and not expression.lhs.equals(expression.rhs)


def _only_both_tiny(expected: Any, given: Any) -> bool:
    """Return True if two numbers are equal only because both round to 0 at the sixth decimal."""
    from sympy import Expr

    if not (isinstance(expected, Expr) and isinstance(given, Expr) and expected.is_number and given.is_number):
        return False
    first, second = complex(expected.evalf()), complex(given.evalf())
    return abs(first) < 1e-3 and abs(first - second) > 1e-3 * abs(first)
