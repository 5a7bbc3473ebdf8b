"""Compares the step time and the memory of methods, such as those of a critic (`ppo`) with those of none.

    reinforcepp prepare arithmetic
    python benchmarks/method_cost.py
    python benchmarks/method_cost.py --recipe math_rlvr/smollm2_cpu --steps 6 --warm-up 2 --rounds 1

Prints the median seconds of a training step and of its parts, their ratios to the first method, and the peak memory of
all processes together and of the largest ones. The critic has the actor's size.
"""

from __future__ import annotations

from typing import Annotated

import typer
from helpers.timed_runs import Variant, compare


def main(
    recipe: Annotated[str, typer.Option(help="What is trained.")] = "math_rlvr/arithmetic",
    methods: Annotated[str, typer.Option(help="Methods, separated by commas.")] = "reinforcepp,ppo",
    steps: Annotated[int, typer.Option(help="Steps per run.")] = 20,
    warm_up: Annotated[int, typer.Option(help="Steps skipped at the start of each run.")] = 3,
    rounds: Annotated[int, typer.Option(help="How often each is run, in turn.")] = 2,
) -> None:
    """Time methods in turn."""
    variants = {method: Variant([f"+method={method}"]) for method in methods.split(",")}
    compare(recipe, variants, steps=steps, warm_up=warm_up, rounds=rounds)


if __name__ == "__main__":
    typer.run(main)
