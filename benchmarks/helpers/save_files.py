"""What the driver does for a save of N workers, on small shards; prints seconds.

python benchmarks/helpers/save_files.py 512

The shards hold a kilobyte each, so the time is that of the number of files. The digests of their contents take longer
(benchmarks/save.py), and so does a file system that is shared. `verl` is what verl's driver does after its workers have
written: the state of the dataloader and the name of the step.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from reinforcepp_verl.checkpoints import manifest, store
from reinforcepp_verl.checkpoints.manifest import Manifest
from reinforcepp_verl.integration.pending_save import PendingSave

KINDS = ("model", "optim", "extra_state")
STEPS = (1, 2)


def write_shards(folder: Path, workers: int) -> None:
    """Write the files that verl's FSDP workers write, three for each."""
    (folder / "actor").mkdir(parents=True)
    for rank in range(workers):
        for kind in KINDS:
            torch.save({"weight": torch.rand(256)}, folder / "actor" / f"{kind}_world_size_{workers}_rank_{rank}.pt")


def timed(seconds: dict[str, float], name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function and add its time."""
    started = time.perf_counter()
    result = function(*arguments)
    seconds[name] = time.perf_counter() - started
    return result


def verls_part(folder: Path, step: int) -> None:
    """Do what verl's `_save_checkpoint` does itself."""
    torch.save({"_steps_since_iter": step}, folder / "data.pt")
    (folder.parent / store.TRACKER_FILE).write_text(str(step))


def main(workers: Annotated[int, typer.Argument(help="Number of workers, each with three files.")]) -> None:
    """Save two steps, keep one, and find it as a resume does."""
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="save-") as scratch:
        root = Path(scratch)
        for step in STEPS:
            staged = store.begin_save(root, "attempt_1") / store.folder_name(step)
            write_shards(staged, workers)
            timed(seconds, "verl", verls_part, staged, step)
            pending = timed(seconds, "listed", PendingSave, staged, step, ("actor",), workers, 0.0)
            timed(seconds, "verified", lambda save=pending: save.verified(wait_for_it=True))
            files = timed(seconds, "described", pending.files)
            sealed = Manifest(step, workers, None, {}, {}, files)
            timed(seconds, "renamed", store.commit_save, staged, root, sealed)
            timed(seconds, "pruned", store.prune, root, 1, step)
        found, _ = timed(seconds, "found", store.newest_checkpoint, root)
        assert found is not None and found.manifest.step == STEPS[-1]
        size = (found.path / manifest.MANIFEST).stat().st_size
    print(json.dumps({"files": len(files), "manifest_kb": size / 1e3, **seconds}))


if __name__ == "__main__":
    typer.run(main)
