r"""Hundreds of hostile answers: none is right, every comparison ends, and the pool survives them."""

import itertools
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from reinforcepp_verl.rewards.math import compute_score

LIMIT_S = 0.5
THREADS = 4
# A number and an expression that no generated answer equals.
TRUTHS = ["7919.8125", r"\sqrt{7919}+\frac{x}{7919}"]

TOKENS = [
    *"0123456789xyzi+-*/^_=<>()[]{}|!,;:.&%$#~ ",
    *(
        r"\frac \sqrt \sum \int \lim \prod \binom \left \right \infty \pi \cdot \pm \text \mathrm \begin{pmatrix}"
    ).split(),
    *(
        r"\end{pmatrix} \\ \{ \} \cup \in \le \ne \log \sin \boxed{ \overline \to ^{ _{ \ldots ** !! 10^ e^ \mod"
    ).split(),
]
CODE = [
    "import os; os._exit(1)",
    "__import__('os').system('kill -9 0')",
    "().__class__.__bases__[0].__subclasses__()",
    "while True: pass",
    "lambda: (yield)",
    "exec('a=' + '9' * 10**9)",
    "9**9**9**9",
    "[0]*10**12",
    "'%0999999999d' % 1",
    "{{7*7}} ${7*7} <% 7*7 %>",
    "'; DROP TABLE scores; --",
    "<script>alert(1)</script>",
    r"\input{/etc/passwd}",
    r"\def\x{\x\x}\x",
    r"\newcommand{\a}{\a\a}\a",
    r"\catcode`\{=12",
]
WORDS = [
    "nan",
    "NaN",
    "-nan",
    "inf",
    "-Infinity",
    "1e999",
    "-1e999",
    "NULL",
    "None",
    "undefined",
    "zoo",
    "oo",
    "I",
    "S",
]
FORMULAS = [
    r"\frac{1}{2} + \sqrt{\frac{3}{4}} \cdot \left( x^{2} - 1 \right)",
    r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
    r"\sum_{k=1}^{n} \frac{1}{k^2} = \frac{\pi^2}{6}",
    r"\{ x \in \mathbb{R} : x^2 < 2 \} \cup [3, \infty)",
    r"\int_0^1 \frac{\sin x}{x} \, dx",
]
SLOW = [
    r"\sum_{k=1}^{9999} \sum_{j=1}^{9999} \sin(kj)^{j}",
    r"\int_0^1 \sin(\cos(\sin(x^{x^x})))^{77} dx",
    r"\prod_{k=1}^{99999} (k^{99} + x)",
    r"(x+y+z+a+b+c)^{9999}",
    r"\sqrt[9999]{7^{9999}+x^{9999}}",
    r"(10^{9999})^{9999}",
    r"\log_{2}(\log_{3}(9999!))",
    r"\lim_{x \to 0} \frac{\sin(x^{99}) - \tan(x^{99})}{x^{297}}",
]


def powers():
    for base, exponent in itertools.product(
        ["2", "10", "-3", "x", r"\pi", "0.5"], [5, 50, 500, 5000, 10**5, 10**9, 10**30]
    ):
        yield rf"{base}^{{{exponent}}}"
    for depth in (2, 3, 4, 5, 10, 30, 100):
        yield "^{".join(["9"] * depth) + "}" * (depth - 1)
        yield "^(".join(["9"] * depth) + ")" * (depth - 1)
        yield "^".join(["9"] * depth)
        yield "**".join(["9"] * depth)
        yield r"\frac{1}{" + "^{".join(["9"] * depth) + "}" * depth
        yield "9" + "!" * depth
        yield "(" * depth + "9" + "!)" * depth
        yield r"\left(" * depth + "9" + r"\right)^{9}" * depth
    yield r"\dfrac{5^{(5^{(5^{(5^5)})}-4)}-5}{16}"
    for large in (10**3, 10**5, 10**9):
        yield from (
            f"{large}!",
            rf"\binom{{{large}}}{{{large // 2}}}",
            rf"\sqrt[{large}]{{2}}",
            rf"7 \mod {large}^{large}",
        )


def nested():
    pairs = [("(", ")"), ("{", "}"), ("[", "]"), (r"\{", r"\}"), (r"\sqrt{", "}"), (r"\frac{1}{", "}"), ("|", "|")]
    pairs += [(r"\text{", "}"), (r"\boxed{", "}"), ("-", ""), (r"\left(", r"\right)"), ("x_{", "}"), (r"\sin ", "")]
    for (opening, closing), depth in itertools.product(pairs, (20, 39, 100, 1000, 100_000)):
        yield opening * depth + "5" + closing * depth


def huge():
    for piece in ("9", "x+", "{", "}", r"\frac", "(", "1,", "\\", " ", "é", "1 ", "^9", r"\boxed{"):
        yield piece * (10**7 // len(piece))


def cut():
    for formula in FORMULAS:
        yield from (formula[:end] for end in range(3, len(formula), 4))
        yield from (formula[start:] for start in range(3, len(formula), 8))


def random_tokens(count, seed=0):
    generator = random.Random(seed)
    for _ in range(count):
        yield "".join(generator.choices(TOKENS, k=generator.randint(1, 30)))


def random_unicode(count, seed=0):
    generator = random.Random(seed)
    ranges = [(0x20, 0x7E), (0x370, 0x3FF), (0x2070, 0x22FF), (0x4E00, 0x4FFF), (0xFF10, 0xFF5E), (0x1F600, 0x1F64F)]
    ranges += [(0x1D400, 0x1D7FF), (0x200B, 0x200F), (0x660, 0x669), (0, 0x1F), (0xD800, 0xD8FF)]
    for _ in range(count):
        low, high = generator.choice(ranges)
        yield "".join(chr(generator.randint(low, high)) for _ in range(generator.randint(1, 20)))


def answers():
    kinds = (powers(), nested(), cut(), random_tokens(250), random_unicode(100), CODE, WORDS, SLOW)
    return list(itertools.chain(*kinds))


def score(solution, truth, limit_s=LIMIT_S):
    return compute_score("torture", solution, truth, last_number=True, time_limit_s=limit_s)


# A comparison without a limit would hang.
@pytest.mark.timeout(900)
@pytest.mark.parametrize("every", [8, pytest.param(1, marks=pytest.mark.long)])
def test_hostile_answers_are_wrong_and_end(every):
    hostile = answers()[::every]
    assert len(hostile) >= 500 // every
    cases = [(rf"so \boxed{{{answer}}}.", TRUTHS[number % 2]) for number, answer in enumerate(hostile)]
    cases += [(solution, TRUTHS[0]) for text in huge() for solution in (text, rf"\boxed{{{text}}}", f"#### {text}")]
    with ThreadPoolExecutor(THREADS) as threads:
        results = list(threads.map(score, *zip(*cases, strict=True)))
    for (solution, truth), result in zip(cases, results, strict=True):
        shown = (truth, solution[:200], result)
        assert (result["score"], result["acc"]) == (0.0, 0.0), shown
        assert result["error"] != "crashed", shown
    for truth in TRUTHS:
        assert score(rf"\boxed{{{truth}+0}}", truth, limit_s=20)["acc"] == 1.0
