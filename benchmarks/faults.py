"""What a fault does to a run: kill, stop or poison a part of the CPU job, wait for the end, resume, print a table.

    reinforcepp prepare arithmetic
    python benchmarks/faults.py            # all faults; give names to choose some

Each fault starts a run of its own, strikes after a step that follows a checkpoint, and resumes to the last step. A full
disk needs a tmpfs, which only root can mount; otherwise it is left out.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from reinforcepp_verl.runs import processes

COMMAND = str(Path(sys.executable).with_name("reinforcepp"))
STEPS, SAVE_EVERY, STRIKE_AFTER = 12, 2, 5
START_DEADLINE_S, END_DEADLINE_S = 240.0, 400.0
HANG_DEADLINE_S = 30
RECIPE = [
    "+recipe=math_rlvr/arithmetic_cpu",
    "trainer.val_before_train=false",
    "trainer.test_freq=-1",
    f"trainer.total_training_steps={STEPS}",
    f"trainer.save_freq={SAVE_EVERY}",
    f"guards.hang_deadline_s={HANG_DEADLINE_S}",
]
POISON = [
    "actor_rollout_ref.model.external_lib=poison",
    f"reward.custom_reward_function.path={Path(__file__).with_name('poison.py')}",
]
DISK_MIB = 256


@dataclass(frozen=True)
class Fault:
    """`strike` gets the run folder. `cure` makes a resume possible; an engine that is killed needs none."""

    name: str
    strike: Callable[[Path], None]
    overrides: list[str] = field(default_factory=list)
    cure: Callable[[Path], None] = lambda run: None
    on_small_disk: bool = False


def send(number: signal.Signals, title: str) -> Callable[[Path], None]:
    """Return a strike: the signal goes to the first process of the run whose command line holds `title`."""

    def strike(run: Path) -> None:
        found = [process for process in processes.of_run(str(run)) if title in " ".join(process.cmdline())]
        found[0].send_signal(number)

    return strike


def poison(what: str) -> Callable[[Path], None]:
    """Return a strike: `what` becomes NaN in the next step."""
    return lambda run: (run / "POISON").write_text(what) and None


def unpoison(run: Path) -> None:
    """Take the poison away."""
    (run / "POISON").unlink()


def fill_disk(run: Path) -> None:
    """Leave room for half a checkpoint on the file system of the run."""
    sizes = [sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) for folder in checkpoints(run)]
    free = os.statvfs(run).f_bavail * os.statvfs(run).f_frsize
    (run / "filler").write_bytes(bytes(free - max(sizes) // 2))


def empty_disk(run: Path) -> None:
    """Take the filler away."""
    (run / "filler").unlink()


KILLED = {
    "vLLM engine": "VLLM::EngineCore",
    "FSDP worker": "ray::WorkerDict",
    "reward worker": "ray::RewardLoopWorker",
    "agent loop worker": "AgentLoopWorker",
    "TransferQueue storage unit": "ray::SimpleStorageUnit",
    "TransferQueue controller": "ray::TransferQueueController",
    "trainer": "ray::TaskRunnerV1",
}
HUNG = ("vLLM engine", "TransferQueue storage unit", "TransferQueue controller", "FSDP worker")
FAULTS = [
    *(Fault(f"killed {part}", send(signal.SIGKILL, title)) for part, title in KILLED.items()),
    *(
        Fault(f"hung {part}", send(signal.SIGSTOP, KILLED[part]), [f"guards.step_deadline_s={HANG_DEADLINE_S}"])
        for part in HUNG
    ),
    Fault("NaN rewards", poison("rewards"), POISON, unpoison),
    Fault("NaN gradients", poison("gradients"), POISON, unpoison),
    Fault("NaN log-probabilities", poison("weights"), [*POISON, "trainer.save_freq=4"], unpoison),
    Fault("NaN weights in a checkpoint", poison("weights"), [*POISON, "trainer.save_freq=1"], unpoison),
    Fault("full disk", fill_disk, cure=empty_disk, on_small_disk=True),
]


def checkpoints(run: Path) -> list[Path]:
    """Return the complete checkpoints, oldest first."""
    found = [file.parent for file in run.glob("checkpoints/global_step_*/COMPLETE")]
    return sorted(found, key=lambda folder: int(folder.name.rpartition("_")[2]))


def newest(run: Path) -> str:
    """Return the step of the newest complete checkpoint."""
    return checkpoints(run)[-1].name.rpartition("_")[2] if checkpoints(run) else "none"


def start(arguments: list[str]) -> subprocess.Popen[str]:
    """Start the command, with this folder on the module path for poison.py."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [COMMAND, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_step(process: subprocess.Popen[str], runs_dir: Path, step: int) -> Path:
    """Return the run folder once `step` is recorded."""
    metrics = runs_dir / "latest" / "metrics.jsonl"
    deadline = time.monotonic() + START_DEADLINE_S
    while not (metrics.is_file() and len(metrics.read_text().splitlines()) >= step):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"step {step} was not reached:\n{process.communicate()[0][-3000:]}")
        time.sleep(0.05)
    return metrics.parent.resolve()


def try_out(fault: Fault, runs_dir: Path) -> str:
    """Return the fault's row of the table."""
    process = start(["train", *RECIPE, *fault.overrides, f"runs_dir={runs_dir}"])
    run = wait_for_step(process, runs_dir, STRIKE_AFTER)
    before = newest(run)
    fault.strike(run)
    struck = time.monotonic()
    output, _ = process.communicate(timeout=END_DEADLINE_S)
    seconds = time.monotonic() - struck
    after = newest(run)
    fault.cure(run)
    resumed = start(["resume", str(run)])
    resumed_output, _ = resumed.communicate(timeout=END_DEADLINE_S)
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    whole = resumed.returncode == 0 and steps == list(range(1, STEPS + 1))
    if not whole:
        typer.echo(
            f"{fault.name}: the resume ended with {resumed.returncode}, steps {steps}\n{resumed_output}", err=True
        )
    what = what_happened(output).replace("|", "/").replace("\n", "; ")
    outcome = "yes" if whole else "no"
    return f"| {fault.name} | {what} | {seconds:.0f} | {process.returncode} | {before} → {after} | {outcome} |"


def what_happened(output: str) -> str:
    """Return what the console says behind `failed:`."""
    found = re.search(r"failed: (.*?)\n(?:full log|curves):", output, re.DOTALL)
    return found[1] if found else output[-300:]


@contextmanager
def place(fault: Fault) -> Iterator[Path]:
    """Give a folder for the runs, on a small tmpfs if the fault is a full disk."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        if fault.on_small_disk:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", folder], check=True)
        runs_dir = Path(folder) / "runs"
        try:
            yield runs_dir
        finally:
            processes.end_all(str((runs_dir / "latest").resolve()))
            if fault.on_small_disk:
                subprocess.run(["umount", "--lazy", folder], check=True)


def main(names: Annotated[list[str] | None, typer.Argument(help="Faults; all if none is given.")] = None) -> None:
    """Print the table, a row as soon as it is known."""
    unknown = set(names or ()) - {fault.name for fault in FAULTS}
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: choose from {', '.join(fault.name for fault in FAULTS)}")
    typer.echo("| fault | what the console says | seconds | exit code | newest checkpoint | resumed to the end |")
    typer.echo("|---|---|---|---|---|---|")
    for fault in FAULTS:
        if names and fault.name not in names:
            continue
        if fault.on_small_disk and os.geteuid() != 0:
            typer.echo(f"{fault.name}: left out, a tmpfs can be mounted by root only", err=True)
            continue
        with place(fault) as runs_dir:
            typer.echo(try_out(fault, runs_dir))


if __name__ == "__main__":
    typer.run(main)
