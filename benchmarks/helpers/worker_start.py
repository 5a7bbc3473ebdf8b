"""Starts N workers as verl's driver starts them, without a model; prints seconds.

    python benchmarks/helpers/worker_start.py verl 4
    python benchmarks/helpers/worker_start.py ours 4

`ours`: forked from one process that has imported torch, as `reinforcepp train` does on a CPU. `created`: the driver has
created the actors. `answered`: all have imported torch and verl and answered a first call. `called`: one more call of
all workers, the median of several.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import time
from collections.abc import Iterator
from typing import Annotated, Any

import ray
import typer
from verl.single_controller.base import Worker
from verl.single_controller.base.decorator import Dispatch, register
from verl.single_controller.ray import RayClassWithInitArgs, RayResourcePool, RayWorkerGroup

from reinforcepp_verl.integration.cpu import fork_server, forked_python
from reinforcepp_verl.integration.cpu.environment import CPU_ENVIRONMENT

CALLS = 20


class Idle(Worker):
    """Answers and does nothing else."""

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def answer(self) -> int:
        return self.rank


@contextlib.contextmanager
def runtime_env(kind: str) -> Iterator[dict[str, Any]]:
    """Yield what Ray starts the workers with."""
    if kind == "verl":
        yield {}
        return
    with fork_server.started(CPU_ENVIRONMENT) as stand_in:
        assert stand_in is not None, "the folder of temporary files does not allow programs"
        os.environ[forked_python.VARIABLE] = stand_in
        yield {"py_executable": stand_in}


def main(
    kind: Annotated[str, typer.Argument(help="verl or ours.")],
    workers: Annotated[int, typer.Argument(help="Number of workers.")],
) -> None:
    """Start them in a Ray of their own."""
    with runtime_env(kind) as environment:
        ray.init(
            address="local", num_cpus=workers + 1, include_dashboard=False, log_to_driver=False, runtime_env=environment
        )
        try:
            print(json.dumps(measured(workers)))
        finally:
            ray.shutdown()


def measured(workers: int) -> dict[str, float]:
    """Return the seconds of each part."""
    started = time.perf_counter()
    pool = RayResourcePool([workers], use_gpu=False, max_colocate_count=1)
    group = RayWorkerGroup(pool, RayClassWithInitArgs(ray.remote(Idle)))
    created = time.perf_counter()
    assert sorted(group.answer()) == list(range(workers))
    answered, calls = time.perf_counter(), []
    for _ in range(CALLS):
        before = time.perf_counter()
        group.answer()
        calls.append(time.perf_counter() - before)
    return {"created": created - started, "answered": answered - started, "called": statistics.median(calls)}


if __name__ == "__main__":
    typer.run(main)
