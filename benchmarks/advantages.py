"""Compares time and memory of the advantage estimators on CPU tensors: ours, verl's built-ins and a plain loop.

    python benchmarks/advantages.py
    python benchmarks/advantages.py --quick --json advantages.json
    python benchmarks/advantages.py --busy 2 --rounds 3     # with two processes that keep cores busy

Before a case is timed, ours must return the same as verl's and the loop. Time is the best of several rounds, in which
the estimators alternate; with --busy, the median, because the best is luck. Each case runs in a separate process, so
that the allocator's reserve does not carry over. Memory is the growth of the peak resident set in a new process,
outputs included, as a multiple of the rewards tensor. The lower bound is a copy of rewards and mask. Run it on an idle
machine.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import multiprocessing
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from helpers.busy_cores import busy_cores
from omegaconf import OmegaConf
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from verl.trainer.ppo import core_algos

from reinforcepp_verl.algorithm.batch import RewardBatch
from reinforcepp_verl.algorithm.estimators import reinforcepp, reinforcepp_baseline
from reinforcepp_verl.algorithm.options import PRESETS, ReinforceppOptions

SHAPES, QUICK_SHAPES = [(256, 8192), (1024, 8192), (64, 65536)], [(16, 256)]
SETTINGS = [("reinforcepp", 1.0), ("reinforcepp", 0.99), ("reinforcepp_baseline", 1.0)]
GROUP_SIZE, GAP = 8, 32
TOLERANCE = 5e-4  # verl and the loop add up to 65536 rewards in fp32
COLUMNS = ["estimator", "shape", "gamma", "mask", "ours", "verl", "loop", "copy", "verl/ours", "memory"]
HEADER = """\
Milliseconds, {statistic} of {rounds}; {threads} threads, {busy} other busy processes; fp32 rewards, int64 masks.
Groups of 8; ours with preset openrlhf.
reinforcepp: dense rewards, a score on the last valid token and a KL on every token. reinforcepp_baseline: an outcome
score on the last valid token, its normal use; it has no gamma. Masks: uniform, all tokens valid; gaps, rows of random
length of which a quarter is tool output. memory: growth of peak RSS over the rewards'; ours / verl / loop / copy."""


class Case(NamedTuple):
    estimator: str
    rows: int
    tokens: int
    gamma: float
    mask: str


class Inputs(NamedTuple):
    rewards: Tensor
    mask: Tensor
    uids: np.ndarray


def inputs_of(case: Case) -> Inputs:
    """Create the batch of a case."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.ones(case.rows, case.tokens, dtype=torch.int64)
    if case.mask == "gaps":
        position, length = torch.arange(case.tokens), torch.randint(1, case.tokens, (case.rows, 1), generator=generator)
        mask *= (position // GAP % 4 != 1) & (position <= length)
    last_valid = (mask * torch.arange(case.tokens)).argmax(-1, keepdim=True)
    rewards = torch.zeros(case.rows, case.tokens)
    if case.estimator == "reinforcepp":
        rewards.normal_(std=1e-3, generator=generator).mul_(mask)
    scores = torch.randint(0, 2, (case.rows, 1), generator=generator).float()
    uids = np.array([f"prompt-{row // GROUP_SIZE}" for row in range(case.rows)], dtype=object)
    return Inputs(rewards.scatter_add_(-1, last_valid, scores), mask, uids)


def ours(case: Case, inputs: Inputs, options: ReinforceppOptions = PRESETS["openrlhf"]) -> tuple[Tensor, ...]:
    """Run our estimator, with the prompt ids converted as in our adapter for verl."""
    if case.estimator == "reinforcepp":
        return reinforcepp(RewardBatch(inputs.rewards, inputs.mask), options, gamma=case.gamma)[:2]
    group_index = torch.as_tensor(np.unique(inputs.uids, return_inverse=True)[1])
    return reinforcepp_baseline(RewardBatch(inputs.rewards, inputs.mask, group_index=group_index), options)[:2]


def verl(case: Case, inputs: Inputs) -> tuple[Tensor, ...]:
    """Run verl's estimator."""
    if case.estimator == "reinforcepp":
        config = OmegaConf.create({"gamma": case.gamma})
        return core_algos.compute_reinforce_plus_plus_outcome_advantage(inputs.rewards, inputs.mask, config=config)
    return core_algos.compute_reinforce_plus_plus_baseline_outcome_advantage(*inputs)


def loop(case: Case, inputs: Inputs) -> tuple[Tensor, ...]:
    """Compute the same as ours in the straightforward way: a loop over tokens, or over groups."""
    rewards, valid = inputs.rewards, inputs.mask.bool()
    if case.estimator == "reinforcepp":
        returns, running = torch.zeros_like(rewards), torch.zeros(case.rows)
        for token in reversed(range(case.tokens)):
            running = torch.where(valid[:, token], rewards[:, token] + case.gamma * running, running)
            returns[:, token] = running * valid[:, token]
    else:
        scores = (rewards * valid).sum(-1)
        for uid in set(inputs.uids):
            group = torch.as_tensor(inputs.uids == uid)
            scores[group] -= scores[group].mean()
        returns = scores.unsqueeze(-1) * valid
    population = returns[valid]
    deviation = population.var(correction=0).clamp(min=1e-8).sqrt()
    return (returns - population.mean()) / deviation * valid, returns


def copy(case: Case, inputs: Inputs) -> tuple[Tensor, ...]:
    """Copy the tensors, the minimum work of any estimator."""
    return inputs.rewards.clone(), inputs.mask.clone()


CONTESTANTS = {"ours": ours, "verl": verl, "loop": loop, "copy": copy}


def check_agreement(case: Case, inputs: Inputs) -> None:
    """Raise AssertionError unless ours equals the loop and, with Bessel's correction, verl."""
    torch.testing.assert_close(ours(case, inputs), loop(case, inputs), rtol=TOLERANCE, atol=TOLERANCE)
    # In its baseline variant verl also returns the normalized rewards as returns.
    outputs = 2 if case.estimator == "reinforcepp" else 1
    unbiased = ours(case, inputs, replace(PRESETS["openrlhf"], unbiased_variance=True))
    torch.testing.assert_close(unbiased[:outputs], verl(case, inputs)[:outputs], rtol=TOLERANCE, atol=TOLERANCE)


def seconds(case: Case, threads: int, rounds: int, busy: int) -> dict[str, float]:
    """Return the time of each estimator, all warmed up by the check: the best, or with other processes the median."""
    torch.set_num_threads(threads)
    inputs = inputs_of(case)
    check_agreement(case, inputs)
    with busy_cores(busy):
        times = alternate(case, inputs, rounds, tuple(CONTESTANTS))
    return {name: (statistics.median if busy else min)(each) for name, each in times.items()}


def alternate(case: Case, inputs: Inputs, rounds: int, contestants: Sequence[str]) -> dict[str, list[float]]:
    """Run the estimators in turn and return the seconds of each round."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name in contestants:
            start = time.perf_counter()
            CONTESTANTS[name](case, inputs)
            times[name].append(time.perf_counter() - start)
    return times


def extra_memory(case: Case, threads: int, contestant: str) -> float:
    """Return the growth of this process's peak memory over the size of the rewards."""
    torch.set_num_threads(threads)
    # Return freed memory to the system at once; otherwise memory used for creating the inputs would be reused unseen.
    ctypes.CDLL(None).mallopt(-3, 2**17)  # M_MMAP_THRESHOLD
    warm_up = case._replace(rows=2 * GROUP_SIZE, tokens=64)
    CONTESTANTS[contestant](warm_up, inputs_of(warm_up))
    inputs = inputs_of(case)
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak to what is in use
    before = _peak_bytes()
    CONTESTANTS[contestant](case, inputs)
    return (_peak_bytes() - before) / inputs.rewards.nbytes


def _peak_bytes() -> int:
    return 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0])


def in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process forked from a server that imports verl and runs nothing."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["verl.trainer.ppo.core_algos"])
    with processes.Pool(1) as pool:
        return pool.apply(function, arguments)


def main(
    json_path: Annotated[Path | None, typer.Option("--json", help="Also write the numbers to this file.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One small shape, as a smoke test.")] = False,
    threads: Annotated[int, typer.Option(help="Number of torch threads.")] = 2,
    rounds: Annotated[int, typer.Option(help="How often each estimator is timed.")] = 7,
    busy: Annotated[int, typer.Option(help="Number of other processes that keep a core busy meanwhile.")] = 0,
) -> None:
    """Compare the advantage estimators in time and memory."""
    table, records = Table(*COLUMNS, box=box.SIMPLE_HEAD, collapse_padding=True), []
    lines = list(itertools.product(SETTINGS, QUICK_SHAPES if quick else SHAPES, ("uniform", "gaps")))
    for (estimator, gamma), shape, mask in track(lines, console=Console(stderr=True), auto_refresh=False):
        case = Case(estimator, *shape, gamma, mask)
        times = in_new_process(seconds, case, threads, rounds, busy)
        memory = {name: in_new_process(extra_memory, case, threads, name) for name in CONTESTANTS}
        records.append({**case._asdict(), "seconds": times, "extra_memory": memory})
        table.add_row(
            *(estimator, f"{case.rows}x{case.tokens}", f"{gamma:g}", mask),
            *(f"{value * 1e3:.1f}" for value in times.values()),
            f"{times['verl'] / times['ours']:.1f}",
            " / ".join(f"{value:.1f}" for value in memory.values()),
        )
    settings = {"threads": threads, "rounds": rounds, "busy": busy, "statistic": "median" if busy else "best"}
    Console(width=120).print(HEADER.format(**settings), table, sep="\n", highlight=False)
    if json_path is not None:
        json_path.write_text(json.dumps({**settings, "cases": records}, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
