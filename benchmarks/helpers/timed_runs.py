"""Trains a recipe in several variants, in turn, and compares the times of their steps and the memory they need."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from helpers.peak_memory import peak_memory_of_runs_in

COMMAND = [str(Path(sys.executable).with_name("reinforcepp")), "train"]
# The first steps of a run compile and fill caches.
QUIET = ["trainer.val_before_train=false", "trainer.test_freq=-1", "trainer.save_freq=-1"]
# As many rows as are worth reading; the others are Ray's own.
PROCESSES = 6
PARTS = ("step", "gen", "old_log_prob", "ref", "values", "adv", "update_critic", "update_actor", "update_weights")


@dataclass
class Variant:
    """Overrides and environment of the runs, and what was measured of them."""

    overrides: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    records: list[dict[str, float]] = field(default_factory=list)
    peak_gb: dict[str, float] = field(default_factory=dict)


def compare(recipe: str, variants: Mapping[str, Variant], *, steps: int, warm_up: int, rounds: int) -> None:
    """Run every variant, in turn, `rounds` times for `steps` steps, of which the first `warm_up` do not count.

    Prints the times of a step and the memory.
    """
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for variant in variants.values():
                with peak_memory_of_runs_in(Path(folder)) as peaks:
                    variant.records += _run(recipe, variant, steps, Path(folder))[warm_up:]
                for name, peak in peaks.items():
                    variant.peak_gb[name] = max(peak, variant.peak_gb.get(name, 0.0))
    console = Console(width=120)
    console.print(seconds_table(variants))
    console.print(memory_table(variants))


def _run(recipe: str, variant: Variant, steps: int, runs_dir: Path) -> list[dict[str, float]]:
    """Train in a new run folder and return each step's record."""
    length = f"trainer.total_training_steps={steps}"
    arguments = [f"+recipe={recipe}", *variant.overrides, *QUIET, length, f"runs_dir={runs_dir}"]
    subprocess.run([*COMMAND, *arguments], check=True, env=os.environ | variant.environment)
    metrics = runs_dir / "latest" / "metrics.jsonl"
    return [json.loads(line) for line in metrics.read_text().splitlines()]


def seconds_table(variants: Mapping[str, Variant]) -> Table:
    """Return the median seconds of each part of a step, and the ratio of each variant to the first."""
    first, *others = variants
    table = Table("median seconds", *variants, *(f"{name}/{first}" for name in others))
    for part in PARTS:
        medians = {name: _median(variant, f"timing_s/{part}") for name, variant in variants.items()}
        if any(median is not None for median in medians.values()):
            ratios = (_ratio(medians[name], medians[first]) for name in others)
            table.add_row(part, *map(_number, medians.values()), *ratios)
    return table


def memory_table(variants: Mapping[str, Variant]) -> Table:
    """Return the processes that need most, by the largest variant, after all of them together."""
    table = Table("peak memory in GB", *variants)
    names = {name for variant in variants.values() for name in variant.peak_gb}
    largest = sorted(names, key=lambda name: -max(one.peak_gb.get(name, 0.0) for one in variants.values()))
    for name in largest[:PROCESSES]:
        table.add_row(name, *(f"{variant.peak_gb.get(name, 0.0):.2f}" for variant in variants.values()))
    return table


def _median(variant: Variant, key: str) -> float | None:
    values = [record[key] for record in variant.records if key in record]
    return statistics.median(values) if values else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _ratio(value: float | None, to: float | None) -> str:
    return "-" if value is None or not to else f"{value / to:.2f}"
