"""Starts N workers as verl's driver starts them, without a model; prints the seconds until all of them answer.

python benchmarks/helpers/worker_start.py 4
"""

from __future__ import annotations

import json
import time
from typing import Annotated

import ray
import typer
from verl.single_controller.base import Worker
from verl.single_controller.base.decorator import Dispatch, register
from verl.single_controller.ray import RayClassWithInitArgs, RayResourcePool, RayWorkerGroup


class Idle(Worker):
    """Answers and does nothing else."""

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def answer(self) -> int:
        return self.rank


def main(workers: Annotated[int, typer.Argument(help="Number of workers.")]) -> None:
    """Start them in a Ray of their own."""
    ray.init(address="local", num_cpus=workers + 1, include_dashboard=False, log_to_driver=False)
    try:
        started = time.perf_counter()
        pool = RayResourcePool([workers], use_gpu=False, max_colocate_count=1)
        group = RayWorkerGroup(pool, RayClassWithInitArgs(ray.remote(Idle)))
        created = time.perf_counter()
        assert sorted(group.answer()) == list(range(workers))
        print(json.dumps({"created": created - started, "answered": time.perf_counter() - started}))
    finally:
        ray.shutdown()


if __name__ == "__main__":
    typer.run(main)
