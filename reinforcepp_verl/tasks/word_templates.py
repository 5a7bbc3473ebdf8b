r"""Short word problems in the formats of GSM8K and MATH, each with correct and wrong solutions.

In MATH's format the answers are fractions, mixed numbers and terms, which can be written in several ways.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import gcd

NAMES = ("Ada", "Ben", "Eve", "Ida", "Leo", "Mia", "Sam", "Tom")
THINGS = ("apples", "books", "cards", "coins", "eggs", "pens", "shells", "stamps")
JUGS = ("barrels", "bottles", "bowls", "cups", "jars", "jugs", "mugs", "pots")
# k jugs with a/n liters each, as (k, a, n): more than one liter in total, and not an integer.
_AMOUNTS = [
    (k, a, n) for n in (3, 4, 5) for a in (1, 2) for k in range(2, 10) if gcd(a, n) == 1 and k * a > n and k * a % n
]


@dataclass(frozen=True)
class Working:
    """A one-line solution and its answer."""

    line: str
    answer: str


@dataclass(frozen=True)
class Problem:
    """A question, its solution in the format of the source's answer column, and correct and wrong solutions."""

    template: str
    question: str
    solution: str
    right: tuple[Working, ...]
    wrong: tuple[Working, ...]


Template = Callable[[random.Random], Problem]


def _buys(draw: random.Random) -> Problem:
    name, things, a, b = draw.choice(NAMES), draw.choice(THINGS), draw.randint(2, 9), draw.randint(2, 9)
    total = a + b
    return Problem(
        "buys",
        f"{name} has {a} {things} and buys {b} more. How many {things} does {name} have?",
        f"{name} has {a}+{b}=<<{a}+{b}={total}>>{total} {things}.\n#### {total}",
        right=(_result(f"{a}+{b}", total),),
        wrong=(_result(f"{a}+{b}", total - 1), _result(f"{a}+{b}", total + 1)),
    )


def _price(draw: random.Random) -> Problem:
    name, things, a, b = draw.choice(NAMES), draw.choice(THINGS), draw.randint(2, 9), draw.randint(2, 9)
    total = a * b
    return Problem(
        "price",
        f"{name} buys {b} {things} for {a} dollars each. How many dollars does {name} pay?",
        f"{name} pays {b}*{a}=<<{b}*{a}={total}>>{total} dollars.\n#### {total}",
        right=(_result(f"{b}*{a}", total),),
        wrong=(_result(f"{b}*{a}", total - a), _result(f"{b}*{a}", total + a)),
    )


def _boxes(draw: random.Random) -> Problem:
    name, things, a, b = draw.choice(NAMES), draw.choice(THINGS), draw.randint(2, 5), draw.randint(2, 5)
    packed, given = a * b, draw.randint(1, 3)
    left = packed - given
    return Problem(
        "boxes",
        f"{name} packs {a} boxes of {b} {things} and gives {given} {things} away. How many {things} are left?",
        f"{name} packs {a}*{b}=<<{a}*{b}={packed}>>{packed} {things}.\n"
        f"There are {packed}-{given}=<<{packed}-{given}={left}>>{left} left.\n#### {left}",
        right=(_result(f"{a}*{b}={packed}, {packed}-{given}", left),),
        wrong=(_result(f"{a}*{b}", packed), _result(f"{a}*{b}={packed}, {packed}+{given}", packed + given)),
    )


def _cake(draw: random.Random) -> Problem:
    (first, second), n = draw.sample(NAMES, 2), draw.randint(3, 9)
    a = draw.randint(1, n - 2)
    b = draw.randint(1, n - 1 - a)
    eaten, line = a + b, f"{a}+{b}={a + b}"
    return Problem(
        "cake",
        rf"{first} eats ${_frac(a, n)}$ of a cake and {second} eats ${_frac(b, n)}$. How much is eaten?",
        rf"Together they eat ${_frac(a, n)}+{_frac(b, n)}=\boxed{{{_lowest(eaten, n)}}}$ of it.",
        right=(Working(line, _frac(eaten, n)),),
        wrong=(Working(line, _frac(eaten, 2 * n)), Working(line, _frac(n, eaten))),
    )


def _jugs(draw: random.Random) -> Problem:
    name, jugs, (k, a, n) = draw.choice(NAMES), draw.choice(JUGS), draw.choice(_AMOUNTS)
    liters = k * a
    whole, rest = divmod(liters, n)
    line = f"{k}*{a}={liters}"
    return Problem(
        "jugs",
        rf"{name} fills {k} {jugs} with ${_frac(a, n)}$ liters each. How many liters is that?",
        rf"The {jugs} hold ${k}\cdot{_frac(a, n)}=\boxed{{{_lowest(liters, n)}}}$ liters.",
        right=(
            Working(line, _frac(liters, n)),
            Working(f"{line}, {liters}={whole}*{n}+{rest}", f"{whole}{_frac(rest, n)}"),
        ),
        wrong=(Working(line, _frac(liters, k * n)), Working(line, _frac(n, liters))),
    )


def _letter(draw: random.Random) -> Problem:
    name, things, a, b = draw.choice(NAMES), draw.choice(THINGS), draw.randint(2, 9), draw.randint(2, 9)
    more, line = a + b, f"{a}+{b}={a + b}"
    return Problem(
        "letter",
        f"{name} has $x$ {things}, buys {a} and finds {b}. How many {things} does {name} have?",
        rf"That is $x+{a}+{b}=\boxed{{x+{more}}}$ {things}.",
        right=(Working(line, f"x+{more}"), Working(line, f"{more}+x")),
        wrong=(Working(line, f"{more}x"), Working(line, str(more))),
    )


FORMATS: Mapping[str, tuple[Template, ...]] = {"gsm8k": (_buys, _price, _boxes), "math": (_cake, _jugs, _letter)}


def problems(source: str, count: int, seed: int) -> list[Problem]:
    """Return `count` problems with different questions in the format of `source`, cycling through its templates."""
    draw, found = random.Random(f"{source} {seed}"), dict[str, Problem]()
    templates = FORMATS[source]
    while len(found) < count:
        problem = templates[len(found) % len(templates)](draw)
        found.setdefault(problem.question, problem)
    return list(found.values())


def row(source: str, problem: Problem) -> dict[str, str]:
    """Return the problem as a row of the source."""
    if source == "gsm8k":
        return {"question": problem.question, "answer": problem.solution}
    kind = "Algebra" if problem.template == "letter" else "Prealgebra"
    return {"problem": problem.question, "level": "Level 1", "type": kind, "solution": problem.solution}


def _result(term: str, value: int) -> Working:
    return Working(f"{term}={value}", str(value))


def _frac(numerator: int, denominator: int) -> str:
    return rf"\frac{{{numerator}}}{{{denominator}}}"


def _lowest(numerator: int, denominator: int) -> str:
    common = gcd(numerator, denominator)
    return _frac(numerator // common, denominator // common)
