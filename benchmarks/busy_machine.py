"""How many times faster than verl's our estimators are beside processes that keep cores busy, on 1 and 2 torch threads.

    python benchmarks/busy_machine.py
    python benchmarks/busy_machine.py --threads 2 --busy 0 --busy 4

Cases and comparison are those of advantages.py, with masks that have gaps. Both estimators alternate in one process;
the time is the median.
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from advantages import SETTINGS, Case, alternate, check_agreement, in_new_process, inputs_of
from helpers.busy_cores import busy_cores
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

CONTESTANTS = ("ours", "verl")


def medians(case: Case, settings: Sequence[tuple[int, int]], rounds: int) -> list[dict[str, float]]:
    """Return the seconds of ours and verl's for each number of threads and of busy processes."""
    inputs, found = inputs_of(case), []
    check_agreement(case, inputs)
    for threads, busy in settings:
        torch.set_num_threads(threads)
        with busy_cores(busy):
            times = alternate(case, inputs, rounds, CONTESTANTS)
        found.append({name: statistics.median(each) for name, each in times.items()})
    return found


def main(
    shape: Annotated[tuple[int, int], typer.Option(help="Rows and tokens.")] = (1024, 8192),
    threads: Annotated[list[int] | None, typer.Option(help="Numbers of torch threads; 1 and 2 by default.")] = None,
    busy: Annotated[list[int] | None, typer.Option(help="Numbers of busy processes; 0, 1, 2, 4 by default.")] = None,
    rounds: Annotated[int, typer.Option(help="How often each estimator is timed.")] = 3,
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write the numbers to this file.")] = None,
) -> None:
    """Print the ratio, and seconds of ours and verl's, for each number of threads and of busy processes."""
    cases = [Case(estimator, *shape, gamma, "gaps") for estimator, gamma in SETTINGS]
    settings = list(itertools.product(threads or (1, 2), busy or (0, 1, 2, 4)))
    found = [in_new_process(medians, case, settings, rounds) for case in track(cases, console=Console(stderr=True))]
    names = [f"{case.estimator}, gamma {case.gamma:g}" for case in cases]
    table = Table("threads", "busy", *names, box=box.SIMPLE_HEAD, collapse_padding=True)
    for number, setting in enumerate(settings):
        timed = [each[number] for each in found]
        cells = [f"{each['verl'] / each['ours']:.1f}  {each['ours']:.2f}, {each['verl']:.2f}" for each in timed]
        table.add_row(*map(str, setting), *cells)
    title = f"{shape[0]} x {shape[1]}: verl/ours, then seconds of ours and verl's, median of {rounds}"
    Console(width=120).print(title, table, sep="\n", highlight=False)
    if json_path is not None:
        records = [
            {**case._asdict(), "settings": settings, "seconds": each} for case, each in zip(cases, found, strict=True)
        ]
        json_path.write_text(json.dumps(records, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
