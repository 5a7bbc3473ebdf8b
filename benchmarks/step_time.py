"""Compares the step time of the CPU job with stock verl (its estimator, loss, replay buffer, agent loops, engine).

    reinforcepp prepare arithmetic
    python benchmarks/step_time.py
    python benchmarks/step_time.py --recipe math_rlvr/smollm2_cpu --steps 6 --warm-up 2 --rounds 1 \\
        --stock actor_rollout_ref.actor.ppo_max_token_len_per_gpu=1024

Prints the median seconds per training step of each, over all rounds, and their ratio, then the processes that needed
most memory. Validation is off; the first steps of each run are skipped because they compile and fill caches.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Optional

import typer
from helpers.peak_memory import peak_memory_of_runs_in
from rich.console import Console
from rich.table import Table

COMMAND = [str(Path(sys.executable).with_name("reinforcepp")), "train"]
QUIET = ["trainer.val_before_train=false", "trainer.test_freq=-1", "trainer.save_freq=-1"]
VARIANTS = {
    "stock": [
        "algorithm.adv_estimator=reinforce_plus_plus",
        "actor_rollout_ref.actor.policy_loss.loss_mode=vanilla",
        "actor_rollout_ref.actor.clip_ratio_c=3.0",
        "trainer.v1.sampler.custom_sampler.path=null",
        "trainer.v1.sampler.custom_sampler.name=null",
        "actor_rollout_ref.rollout.agent.agent_loop_manager_class=null",
    ],
    "ours": [],
}
# As many rows as are worth reading; the others are Ray's own.
PROCESSES = 6
# verl's engine on the CPU, where ours computes each prompt once.
STOCK_ENGINE = {"VERL_ENGINE_DEVICE": "cuda"}
PARTS = ("step", "gen", "old_log_prob", "ref", "adv", "update_actor", "update_weights")


def run_once(recipe: str, variant: str, more: list[str], steps: int, runs_dir: Path) -> list[dict[str, float]]:
    """Train for `steps` steps in a new run folder and return each step's record."""
    arguments = [
        f"+recipe={recipe}",
        *VARIANTS[variant],
        *more,
        *QUIET,
        f"trainer.total_training_steps={steps}",
        f"runs_dir={runs_dir}",
    ]
    engine = STOCK_ENGINE if variant == "stock" else {}
    subprocess.run([*COMMAND, *arguments], check=True, env=os.environ | engine)
    metrics = runs_dir / "latest" / "metrics.jsonl"
    return [json.loads(line) for line in metrics.read_text().splitlines()]


def main(
    recipe: Annotated[str, typer.Option(help="What is trained.")] = "math_rlvr/arithmetic",
    steps: Annotated[int, typer.Option(help="Steps per run.")] = 20,
    warm_up: Annotated[int, typer.Option(help="Steps skipped at the start of each run.")] = 3,
    rounds: Annotated[int, typer.Option(help="How often both are run, in turn.")] = 2,
    stock: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="KEY=VALUE", help="Another setting of the stock run, if one suits it better."),
    ] = None,
) -> None:
    """Time the CPU job with stock verl and with this package, in turn."""
    measured: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    memory: dict[str, dict[str, float]] = {variant: {} for variant in VARIANTS}
    with tempfile.TemporaryDirectory() as runs_dir:
        for _ in range(rounds):
            for variant in VARIANTS:
                with peak_memory_of_runs_in(Path(runs_dir)) as peaks:
                    more = (stock or []) if variant == "stock" else []
                    measured[variant] += run_once(recipe, variant, more, steps, Path(runs_dir))[warm_up:]
                memory[variant] |= {name: max(peak, memory[variant].get(name, 0)) for name, peak in peaks.items()}
    console = Console(width=120)
    console.print(seconds_table(measured))
    console.print(memory_table(memory))


def seconds_table(measured: dict[str, list[dict[str, float]]]) -> Table:
    """Return the median seconds of each part of a step that all steps have."""
    table = Table("median seconds", *VARIANTS, "ours/stock")
    for part in PARTS:
        key = f"timing_s/{part}"
        if all(key in record for records in measured.values() for record in records):
            stock, ours = (statistics.median(record[key] for record in measured[variant]) for variant in VARIANTS)
            table.add_row(part, f"{stock:.3f}", f"{ours:.3f}", f"{ours / stock:.2f}")
    return table


def memory_table(memory: dict[str, dict[str, float]]) -> Table:
    """Return the processes that needed most, by the larger of the two."""
    table = Table("peak memory in GB", *VARIANTS)
    names = {name for peaks in memory.values() for name in peaks}
    largest = sorted(names, key=lambda name: max(peaks.get(name, 0) for peaks in memory.values()), reverse=True)
    for name in largest[:PROCESSES]:
        table.add_row(name, *(f"{memory[variant].get(name, 0):.2f}" for variant in VARIANTS))
    return table


if __name__ == "__main__":
    typer.run(main)
