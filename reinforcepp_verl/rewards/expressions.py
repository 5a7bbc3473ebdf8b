"""Compares two mathematical expressions with math-verify and SymPy: run it in a worker, because both may hang."""

from __future__ import annotations

import dataclasses
import logging
import re
from functools import cache
from typing import Any, NamedTuple


class VerifyResult(NamedTuple):
    """Whether an answer is correct and, if it could not be compared, why not."""

    correct: bool
    reason: str = ""


NOT_PARSED, GROUND_TRUTH_NOT_PARSED = "not parsed", "ground truth not parsed"
_NUMBER_BEFORE_BRACKET = re.compile(r"(?<![\w_^.}{\\)])(\d+(?:\.\d+)?) ?(?=\()")
_BRACKETS = re.compile(r"\) ?(?=\(\d|\(-\d|\(\\frac|\d)")
_EXACT, _ROUNDED = 1e-40, 1e-6
"""Largest relative differences of equal numbers, without and with decimals."""


def compare_expressions(truth: str, answer: str) -> VerifyResult:
    """Compare two single values with math-verify."""
    expected, given = _parsed(truth), _parsed(answer)
    if not expected:
        return VerifyResult(False, GROUND_TRUTH_NOT_PARSED)
    return _verified(expected, given) or VerifyResult(False, NOT_PARSED)


def with_products(text: str) -> str:
    r"""Write the product of a number and a bracket with `\cdot`: math-verify adds them, so that 2(3) is 5."""
    text = _NUMBER_BEFORE_BRACKET.sub(r"\1\\cdot ", text)
    return _BRACKETS.sub(r")\\cdot ", text)


def _parsed(text: str) -> list:
    """Parse a normal form with math-verify; [] if it cannot, which it signals with many kinds of exceptions."""
    parse, _, configs = _math_verify()
    try:
        parsed = parse(rf"\boxed{{{with_products(text)}}}", configs, parsing_timeout=None, raise_on_error=True)
        return [_with_imaginary_unit(each) for each in parsed]
    except MemoryError:  # the limit of the worker
        raise
    except Exception:
        return []


def _with_imaginary_unit(expression: Any) -> Any:
    """Read i as the imaginary unit; math-verify reads it as a variable."""
    from sympy import Expr, I

    if not isinstance(expression, Expr):
        return expression
    return expression.subs({symbol: I for symbol in expression.free_symbols if symbol.name == "i"})  # type: ignore[attr-defined]


def _verified(expected: list, given: list) -> VerifyResult | None:
    """Compare two parsed answers; None if math-verify cannot, as above."""
    _, verify, _ = _math_verify()
    try:
        if not given:
            return None
        if _false_equation(given[0]):
            return VerifyResult(False)
        if (equal := _equal_complex(expected[0], given[0])) is not None:
            return VerifyResult(equal)
        equal = verify(expected, given, timeout_seconds=None, raise_on_error=True)
        return VerifyResult(bool(equal and not _only_rounded(expected[0], given[0])))
    except MemoryError:
        raise
    except Exception:
        return None


@cache
def _math_verify() -> tuple[Any, Any, Any]:
    from math_verify import LatexExtractionConfig, parse, verify  # takes 0.4 s, in workers only

    # It warns that its own time limits are off; ours kills the process instead.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    # Its units are letters that may be variables: it reads 5t as 5.
    normalization = dataclasses.replace(LatexExtractionConfig().normalization_config, units=False)
    return parse, verify, (LatexExtractionConfig(boxed_match_priority=0, normalization_config=normalization),)


def _false_equation(expression: Any) -> bool:
    """Return True if an answer equates two different numbers: math-verify only checks the right side."""
    from sympy import Eq

    return isinstance(expression, Eq) and not expression.free_symbols and not expression.lhs.equals(expression.rhs)


def _equal_complex(expected: Any, given: Any) -> bool | None:
    """Compare two numbers of which one is not real, which math-verify does not; None for all others."""
    from sympy import Float, I

    if not _numbers(expected, given) or not (expected.has(I) or given.has(I)):
        return None
    first, second = (value.evalf(60, maxn=2000) for value in (expected, given))
    tolerance = _ROUNDED if expected.has(Float) or given.has(Float) else _EXACT
    return bool(abs(first - second) <= abs(first) * tolerance)


def _numbers(*expressions: Any) -> bool:
    from sympy import Expr

    return all(isinstance(expression, Expr) and expression.is_number for expression in expressions)


def _only_rounded(expected: Any, given: Any) -> bool:
    """Return True if two exact numbers are equal only because they round to the same decimals, or both to 0."""
    from sympy import Float

    if not _numbers(expected, given):
        return False
    if expected.has(Float) or given.has(Float):
        first, second = complex(expected.evalf()), complex(given.evalf())
        return abs(first) < 1e-3 and abs(first - second) > 1e-3 * abs(first)
    if expected.is_Rational and given.is_Rational:
        return bool(expected != given)
    first, second = (value.evalf(60, maxn=2000) for value in (expected, given))
    return bool(abs(first - second) > abs(first) * _EXACT)
