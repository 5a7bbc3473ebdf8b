r"""Compares the throughput of our verifier with `verl.utils.reward_score.math_verify` on the same answers, in one run.

    python benchmarks/verifier_speed.py
    python benchmarks/verifier_speed.py --busy 16 --rounds 1    # while 16 other processes use the cores

Prints answers per second with the same number of worker processes for both, the median of the rounds, in which the two
alternate. Both are called from many threads, as in verl's reward loop. `plain`: integers and decimals, which ours
compares as text. `expressions`: fractions, roots, polynomials, sets, which only math-verify can compare. Half of the
answers are right. `agree` is the share of answers with the same verdict, `timeouts` how many comparisons of ours ran
into their limit of 5 s in the last round. `hung`: the plain answers, four of them with a
comparison that does not end; both allow 5 s each.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from helpers.busy_cores import busy_cores
from rich.console import Console
from rich.table import Table
from verl.utils.reward_score import math_verify as verls

from reinforcepp_verl.rewards.math import compute_score

KINDS = ("plain", "expressions", "hung")
THREADS = 32
HUNG = r"\sum_{k=1}^{9999} \sum_{j=1}^{9999} \sin(kj)^{j}"
REASONING = "Let $x$ be the unknown. Then $2x + 3 = 11$, so that $x = \\frac{11 - 3}{2}$, as is easy to check.\n" * 12


class Case(NamedTuple):
    """A solution and its ground truth."""

    solution: str
    truth: str


class Measurement(NamedTuple):
    """The throughput of one scorer in one round, and its verdicts."""

    per_second: float
    verdicts: list[bool]


def plain(generator: random.Random) -> tuple[str, str]:
    """Draw a number as the ground truth and an equal one written differently."""
    number = generator.randint(1, 10**6)
    return str(number), generator.choice([str(number), f"{number:,}", f"{number}.0", f"{number} \\text{{ apples}}"])


def expression(generator: random.Random) -> tuple[str, str]:
    """Draw an expression as the ground truth and an equal one written differently."""
    a, b, c = (generator.randint(2, 30) for _ in range(3))
    return generator.choice(
        [
            (rf"\frac{{{a}}}{{{b}}}", rf"\frac{{{a * c}}}{{{b * c}}}"),
            (rf"{a}\sqrt{{{b}}}", rf"\sqrt{{{a * a * b}}}"),
            (rf"x^2 + {a + b}x + {a * b}", rf"(x + {a})(x + {b})"),
            (rf"({a}, {b}\pi)", rf"\left( {a}, {b} \pi \right)"),
            (rf"\{{{a}, {b + 30}\}}", rf"\{{{b + 30}, {a}\}}"),
            (rf"[{a}, {a + b}) \cup ({a + b}, \infty)", rf"[{a}, {a + b}) \cup ({a + b}, +\infty)"),
        ]
    )


def draw(kind: str, count: int, seed: int = 0) -> list[Case]:
    """Create `count` solutions, every second one with the answer to another question."""
    generator = random.Random(seed)
    pairs = [(expression if kind == "expressions" else plain)(generator) for _ in range(count)]
    cases = [
        Case(rf"{REASONING}The answer is $\boxed{{{pairs[number - number % 2][1]}}}$.", truth)
        for number, (truth, _) in enumerate(pairs)
    ]
    if kind == "hung":
        for number in range(0, count, max(count // 4, 25)):
            cases[number] = Case(rf"{REASONING}The answer is $\boxed{{{HUNG}}}$.", cases[number].truth)
    return cases


def measure(score: Callable[[Case], bool], cases: list[Case]) -> Measurement:
    """Score all cases from as many threads as in verl's reward loop."""
    with ThreadPoolExecutor(THREADS) as threads:
        start = time.perf_counter()
        verdicts = list(threads.map(score, cases))
        return Measurement(len(cases) / (time.perf_counter() - start), verdicts)


def compare(
    kind: str,
    scorers: dict[str, Callable[[Case], bool]],
    cases: list[Case],
    rounds: int,
    workers: int,
    errors: Counter[str],
) -> dict[str, Any]:
    """Measure both scorers in turn."""
    for score in scorers.values():
        measure(score, draw("expressions", 10 * workers, seed=1))  # starts the workers and their imports
    taken: dict[str, list[Measurement]] = {name: [] for name in scorers}
    for _ in range(rounds):
        errors.clear()
        for name, score in scorers.items():
            taken[name].append(measure(score, cases))
    verdicts = {name: taken[name][-1].verdicts for name in scorers}
    return {
        "kind": kind,
        "per_second": {name: statistics.median(one.per_second for one in taken[name]) for name in scorers},
        "right": {name: sum(verdicts[name]) for name in scorers},
        "agree": statistics.mean(a == b for a, b in zip(verdicts["verl"], verdicts["ours"], strict=True)),
        "timeouts": errors["timeout"],
    }


def main(
    answers: Annotated[int, typer.Option(help="Answers of each kind.")] = 2000,
    workers: Annotated[int, typer.Option(help="Worker processes of each scorer; verl's default is 4.")] = 2,
    rounds: Annotated[int, typer.Option(help="How often both score everything, in turn.")] = 3,
    busy: Annotated[int, typer.Option(help="Other processes that use the cores meanwhile.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="A few answers in one round, as a smoke test.")] = False,
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write the numbers here.")] = None,
) -> None:
    """Time our verifier and verl's on the same answers, in turn."""
    if quick:
        answers, rounds = 40, 1
    verls._pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    errors: Counter[str] = Counter()

    def ours(case: Case) -> bool:
        result = compute_score("math", case.solution, case.truth, workers=workers)
        errors[str(result["error"])] += 1
        return result["acc"] == 1.0

    scorers: dict[str, Callable[[Case], bool]] = {
        "verl": lambda case: verls.compute_score(case.solution, case.truth) == 1.0,
        "ours": ours,
    }
    with busy_cores(busy):
        numbers = [compare(kind, scorers, draw(kind, answers), rounds, workers, errors) for kind in KINDS]
    table = Table("answers/s", "answers", *scorers, "ours/verl", "right: verl", "ours", "agree", "timeouts")
    for one in numbers:
        rates, right = one["per_second"], one["right"]
        table.add_row(
            one["kind"],
            str(answers),
            *(f"{rate:.0f}" for rate in rates.values()),
            f"{rates['ours'] / rates['verl']:.2f}",
            *(str(count) for count in right.values()),
            f"{one['agree']:.3f}",
            str(one["timeouts"]),
        )
    Console(width=120).print(table)
    if json_path is not None:
        json_path.write_text(json.dumps({"workers": workers, "answers": answers, "kinds": numbers}, indent=2))


if __name__ == "__main__":
    typer.run(main)
