"""What a checkpoint costs: verl's own save, and what this package adds to make it durable and verified.

    python benchmarks/save.py
    python benchmarks/save.py --gib 20 --workers 8 --folder /shared/scratch

Processes in place of FSDP workers write their shards at once as verl does (`torch.save` of weights, and of an optimizer
state twice as large). Then the save is verified as in a run, in the background: the parts are timed alone first, on a
second save. "training waits" is how long the trainer is held up in all, and the ratio compares it with verl's save
alone. The page cache is as the save leaves it, so a file that fits into memory is read back from there.
"""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from reinforcepp_verl.checkpoints import manifest, store
from reinforcepp_verl.checkpoints.manifest import Manifest
from reinforcepp_verl.common import durable
from reinforcepp_verl.guards.finite_weights import check_finite_weights
from reinforcepp_verl.integration.pending_save import PendingSave

GIB = 2**30


def shard(workers: int, gib: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the weights and the optimizer state of one FSDP worker."""
    values = int(gib / workers * GIB / 3 / 4)
    weights = {str(part): torch.rand(values // 8) for part in range(8)}
    return weights, {name: {"exp_avg": value, "exp_avg_sq": value.clone()} for name, value in weights.items()}


def save(folder: Path, workers: int, gib: float) -> float:
    """Let all workers save at once; return the seconds, without the start of the processes."""
    (folder / "actor").mkdir(parents=True)
    ready = multiprocessing.Barrier(workers + 1)

    def work(rank: int) -> None:
        torch.set_num_threads(1)
        weights, optimizer = shard(workers, gib)
        ready.wait()
        torch.save(weights, folder / "actor" / f"model_world_size_{workers}_rank_{rank}.pt")
        torch.save(optimizer, folder / "actor" / f"optim_world_size_{workers}_rank_{rank}.pt")

    processes = [multiprocessing.get_context("fork").Process(target=work, args=(rank,)) for rank in range(workers)]
    for process in processes:
        process.start()
    ready.wait()
    started = time.perf_counter()
    for process in processes:
        process.join()
        if process.exitcode != 0:
            raise SystemExit(f"a worker ended with {process.exitcode}")
    return time.perf_counter() - started


def seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - started


def parts(folder: Path, workers: int, gib: float) -> dict[str, float]:
    """Time the parts of the verification, one after another."""
    save(folder, workers, gib)
    files = manifest.files_of(folder)
    return {
        "written to disk (fsync)": seconds(lambda: [durable.sync(file) for file in files]),
        "read back, digests": seconds(manifest.digests, files),
        "weights are finite": seconds(check_finite_weights, folder / "actor", workers),
    }


def main(
    gib: Annotated[float, typer.Option(help="Size of the checkpoint, GiB.")] = 4.0,
    workers: Annotated[int, typer.Option(help="Processes that write it.")] = 2,
    folder: Annotated[
        Path | None, typer.Option(help="Where to write, by default the folder of temporary files.")
    ] = None,
) -> None:
    """Time a save and its verification."""
    root = Path(tempfile.mkdtemp(prefix="save-", dir=folder))
    try:
        timed = parts(root / "parts", workers, gib)
        shutil.rmtree(root / "parts")
        staged = store.begin_save(root, "attempt_1") / store.folder_name(1)
        own = save(staged, workers, gib)
        pending = PendingSave(staged, 1, ("actor",), workers, own)
        waits = seconds(lambda: pending.verified(wait_for_it=False))
        in_background = seconds(lambda: pending.verified(wait_for_it=True))
        sealed = Manifest(1, workers, None, {}, {}, pending.files())
        commit = seconds(store.commit_save, staged, root, sealed)
    finally:
        shutil.rmtree(root)
    table = Table("", "seconds", "GiB/s", title=f"{gib:g} GiB, {workers} workers")
    for name, duration in {"verl's save": own, **timed, "sealed, renamed": commit}.items():
        table.add_row(name, f"{duration:.1f}", f"{gib / duration:.2f}" if duration > 0.05 else "")
    table.add_section()
    table.add_row("training waits", f"{own + waits + commit:.1f}", "")
    table.add_row("and the verification goes on for", f"{in_background:.1f}", "")
    table.add_row("waits / verl's save", f"{(own + waits + commit) / own:.2f}", "")
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
