"""The calculator: exact arithmetic, and a refusal for everything else, however it is written."""

from __future__ import annotations

import pytest

from reinforcepp_verl.tasks.calculator import (
    DIVISION_BY_ZERO,
    NOT_ARITHMETIC,
    REASONS,
    TOO_LARGE,
    TOO_LONG,
    TOO_MANY_OPERATIONS,
    CalculatorError,
    CalculatorLimits,
    calculate,
)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("12+34*5", "182"),
        ("(12+34)*5", "230"),
        (" 7 - 10 ", "-3"),
        ("--7", "7"),
        ("+7", "7"),
        ("0.1+0.2", "0.3"),
        ("1.+.5", "1.5"),
        ("0.12345678901234567890-0.12345678901234567889", "1e-20"),
        ("6/3", "2"),
        ("1/3", "0.333333333333"),
        ("-1/8", "-0.125"),
        ("1/3*3", "1"),
        ("999999999999", "999999999999"),
        ("((((((7))))))", "7"),
    ],
)
def test_values(expression, value):
    assert calculate(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        *("", " ", "1+", "+", "()", "1 2", "007", "1..2", "2**9", "7//2", "2(3)", "(1,2)", "1;2", "1\n+1", "1#", "1=1"),
        *(
            "__import__('os').system('id')",
            "a",
            "True",
            "1j",
            "1e9",
            "0x10",
            "1_000",
            "'1'",
            "[1]",
            "٣+٣",
            "1if 1else 2",
        ),
        "(" * 30,
    ],
)
def test_anything_else_is_not_arithmetic(expression):
    with pytest.raises(CalculatorError, match=f"^{NOT_ARITHMETIC}$"):
        calculate(expression)


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("1" * 65, TOO_LONG),
        ("1" * 13, TOO_LARGE),
        ("999999*999999*10", TOO_LARGE),
        ("999999*999999*10-9", TOO_LARGE),
        ("+".join("1" * 18), TOO_MANY_OPERATIONS),
        ("1/0", DIVISION_BY_ZERO),
        ("1/(2-2)", DIVISION_BY_ZERO),
    ],
)
def test_limits(expression, reason):
    with pytest.raises(CalculatorError, match=f"^{reason}$"):
        calculate(expression)
    assert reason in REASONS


def test_limits_can_be_set():
    one = CalculatorLimits(max_operations=1)
    assert calculate("12*-3", one) == "-36"
    with pytest.raises(CalculatorError, match=TOO_MANY_OPERATIONS):
        calculate("1+2+3", one)
    with pytest.raises(CalculatorError, match=TOO_LONG):
        calculate("1+2", CalculatorLimits(max_characters=2))
    for wrong in (0, -1, 1.5, True, "2"):
        with pytest.raises(ValueError, match="max_operations is .*: set it to an integer of at least 1"):
            CalculatorLimits(max_operations=wrong)


def test_the_largest_work_within_the_limits_is_small():
    """Denominators multiply, but 64 characters hold no more than 64 digits."""
    for expression in ("/".join(["1", *["9999999"] * 7]), "-" * 63 + "1", "(" * 31 + "1" + ")" * 31):
        calculate(expression, CalculatorLimits(max_digits=64))
