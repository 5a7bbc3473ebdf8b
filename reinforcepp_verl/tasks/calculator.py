"""A calculator for text that a model wrote: `ast` parses it, nothing runs as Python, and limits bound the work."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

_ALLOWED = re.compile(r"[0-9+\-*/(). ]+")
_OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_SIGNIFICANT_DIGITS = 12


class CalculatorError(ValueError):
    """The expression has no result; the message is for the model."""


TOO_LONG, NOT_ARITHMETIC, TOO_MANY_OPERATIONS = "too long", "not arithmetic", "too many operations"
DIVISION_BY_ZERO, TOO_LARGE = "division by zero", "too large"
REASONS = (TOO_LONG, NOT_ARITHMETIC, TOO_MANY_OPERATIONS, DIVISION_BY_ZERO, TOO_LARGE)
"""All messages of a CalculatorError."""


@dataclass(frozen=True)
class CalculatorLimits:
    """What the calculator accepts."""

    max_characters: int = 64
    max_operations: int = 16
    max_digits: int = 12
    """Of the integer part of every number, also of those in between."""

    def __post_init__(self) -> None:
        for name, given in vars(self).items():
            if type(given) is not int or given < 1:
                raise ValueError(f"{name} is {given!r}: set it to an integer of at least 1")


def calculate(expression: str, limits: CalculatorLimits | None = None) -> str:
    """Return the value of decimal numbers with `+ - * /` and parentheses.

    The arithmetic is exact; a value that is not an integer is rounded to 12 significant digits.

    Raises:
        CalculatorError: it is not such an expression, or beyond the limits
    """
    limits = limits or CalculatorLimits()
    if len(expression) > limits.max_characters:
        raise CalculatorError(TOO_LONG)
    if not _ALLOWED.fullmatch(expression):
        raise CalculatorError(NOT_ARITHMETIC)
    source = expression.strip()
    try:
        tree = ast.parse(source, mode="eval").body
    except SyntaxError:
        raise CalculatorError(NOT_ARITHMETIC) from None
    if sum(isinstance(node, ast.BinOp) for node in ast.walk(tree)) > limits.max_operations:
        raise CalculatorError(TOO_MANY_OPERATIONS)
    return _text(_value(tree, source, 10**limits.max_digits))


def _value(node: ast.expr, source: str, bound: int) -> Fraction:
    match node:
        case ast.Constant(value=int() | float()):
            # As written: a float would round it.
            found = Fraction(source[node.col_offset : node.end_col_offset])
        case ast.UnaryOp(op=ast.UAdd() | ast.USub()):
            operand = _value(node.operand, source, bound)
            found = -operand if isinstance(node.op, ast.USub) else operand
        case ast.BinOp() if type(node.op) in _OPERATIONS:
            left, right = (_value(side, source, bound) for side in (node.left, node.right))
            if isinstance(node.op, ast.Div) and right == 0:
                raise CalculatorError(DIVISION_BY_ZERO)
            found = _OPERATIONS[type(node.op)](left, right)
        case _:
            raise CalculatorError(NOT_ARITHMETIC)
    if abs(found) >= bound:
        raise CalculatorError(TOO_LARGE)
    return found


def _text(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.{_SIGNIFICANT_DIGITS}g}"
