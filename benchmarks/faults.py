"""Injects every fault into one run of the CPU job, one after another, resumes it each time, and runs it to the end.

    reinforcepp prepare arithmetic
    python benchmarks/faults.py            # all faults; give names to choose some

A fault is injected when an attempt has done a few steps: a process is killed or stopped, numbers become NaN, the disk
is full. Prints a table with one row per fault, then whether the run finished with every step recorded exactly once. The
full disk needs a tmpfs, which only root can mount; otherwise it is skipped.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from reinforcepp_verl.runs import processes

COMMAND = str(Path(sys.executable).with_name("reinforcepp"))
HELPERS = Path(__file__).with_name("helpers")
STEPS_A_FAULT = 3
START_DEADLINE_S, END_DEADLINE_S = 600.0, 600.0
HANG_DEADLINE_S = 30
# The startup is a phase too, and takes long on a busy machine.
STEP_DEADLINE_S = 120
RECIPE = [
    "+recipe=math_rlvr/arithmetic",
    "trainer.val_before_train=false",
    "trainer.test_freq=-1",
    "trainer.max_actor_ckpt_to_keep=2",
    f"guards.hang_deadline_s={HANG_DEADLINE_S}",
    "actor_rollout_ref.model.external_lib=poison",
    f"reward.custom_reward_function.path={HELPERS / 'poison.py'}",
]
SAVE, STEP_DEADLINE = "trainer.save_freq", "guards.step_deadline_s"
DISK_MIB = 256


@dataclass(frozen=True)
class Fault:
    """`inject` and `remove` get the run folder; a killed process leaves nothing to remove."""

    name: str
    inject: Callable[[Path], object]
    remove: Callable[[Path], object] = lambda run: None
    save_every: int = 2
    step_deadline: str = "null"
    needs_own_disk: bool = False

    @property
    def overrides(self) -> list[str]:
        """Settings of the attempt with the fault."""
        return [f"{SAVE}={self.save_every}", f"{STEP_DEADLINE}={self.step_deadline}"]


def send(number: signal.Signals, title: str) -> Callable[[Path], None]:
    """Return a function that sends the signal to the first process of the run with `title` in its command line."""

    def inject(run: Path) -> None:
        found = [process for process in processes.find_all(str(run)) if title in " ".join(process.cmdline())]
        found[0].send_signal(number)

    return inject


def poison(what: str) -> Callable[[Path], None]:
    """Return a function that makes `what` NaN in the next step."""
    return lambda run: (run / "POISON").write_text(what)


def unpoison(run: Path) -> None:
    """Remove the poison."""
    (run / "POISON").unlink()


def fill_disk(run: Path) -> None:
    """Leave space for half a checkpoint on the file system of the run."""
    sizes = [sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) for folder in checkpoints(run)]
    free = os.statvfs(run).f_bavail * os.statvfs(run).f_frsize
    (run / "ballast").write_bytes(bytes(free - max(sizes) // 2))


def empty_disk(run: Path) -> None:
    """Remove the file that fills the disk."""
    (run / "ballast").unlink()


KILLED = {
    "vLLM engine": "VLLM::EngineCore",
    "FSDP worker": "ray::WorkerDict",
    "reward worker": "ray::RewardLoopWorker",
    "agent loop worker": "AgentLoopWorker",
    "TransferQueue storage unit": "ray::SimpleStorageUnit",
    "TransferQueue controller": "ray::TransferQueueController",
    "trainer": "ray::TaskRunnerV1",
}
HUNG = ("vLLM engine", "reward worker", "TransferQueue storage unit", "TransferQueue controller")
FAULTS = [
    *(Fault(f"killed {part}", send(signal.SIGKILL, title)) for part, title in KILLED.items()),
    *(Fault(f"hung {part}", send(signal.SIGSTOP, KILLED[part])) for part in HUNG),
    Fault("hung FSDP worker", send(signal.SIGSTOP, KILLED["FSDP worker"]), step_deadline=str(STEP_DEADLINE_S)),
    Fault("NaN rewards", poison("rewards"), unpoison),
    Fault("NaN gradients", poison("gradients"), unpoison),
    Fault("NaN log-probabilities", poison("weights"), unpoison, save_every=1000),
    Fault("NaN weights in a checkpoint", poison("weights"), unpoison, save_every=1),
    Fault("full disk", fill_disk, empty_disk, needs_own_disk=True),
]


def checkpoints(run: Path) -> list[Path]:
    """Return the complete checkpoints, oldest first."""
    found = [file.parent for file in run.glob("checkpoints/global_step_*/COMPLETE")]
    return sorted(found, key=lambda folder: int(folder.name.rpartition("_")[2]))


def newest(run: Path) -> str:
    """Return the step of the newest complete checkpoint."""
    return checkpoints(run)[-1].name.rpartition("_")[2] if checkpoints(run) else "none"


def start(arguments: list[str]) -> subprocess.Popen[str]:
    """Start the command, with helpers/ on the module path for poison.py."""
    path = os.pathsep.join([str(HELPERS), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [COMMAND, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def recorded(run: Path) -> list[int]:
    """Return the steps in metrics.jsonl."""
    file = run / "metrics.jsonl"
    return [json.loads(line)["step"] for line in file.read_text().splitlines()] if file.is_file() else []


def run_with(fault: Fault, process: subprocess.Popen[str], runs_dir: Path) -> str:
    """Inject the fault when the attempt has done its steps; return its row of the table."""
    deadline, latest = time.monotonic() + START_DEADLINE_S, runs_dir / "latest"
    before = len(recorded(latest))
    while len(recorded(latest)) < before + STEPS_A_FAULT:
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"{fault.name}: the attempt completes no steps:\n{process.communicate()[0][-3000:]}")
        time.sleep(0.05)
    run = latest.resolve()
    saved = newest(run)
    fault.inject(run)
    injected = time.monotonic()
    output, _ = process.communicate(timeout=END_DEADLINE_S)
    seconds = time.monotonic() - injected
    row = f"| {fault.name} | {what_happened(output)} | {seconds:.0f} | {process.returncode} | {saved} → {newest(run)} |"
    fault.remove(run)
    return row


def what_happened(output: str) -> str:
    """Return the console text after `failed:`, as a cell of the table."""
    found = re.search(r"failed: (.*?)\n(?:full log|curves)", output, re.DOTALL)
    return (found[1] if found else output[-300:]).replace("|", "/").replace("\n", "; ")


@contextmanager
def place(on_own_disk: bool) -> Iterator[Path]:
    """Yield a folder for the run, on a tmpfs for the full disk."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        if on_own_disk:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", folder], check=True)
        runs_dir = Path(folder) / "runs"
        try:
            yield runs_dir
        finally:
            processes.terminate_all(str((runs_dir / "latest").resolve()))
            if on_own_disk:
                subprocess.run(["umount", "--lazy", folder], check=True)


def chosen(names: list[str]) -> list[Fault]:
    """Return the faults with these names, or all that are possible here."""
    if unknown := set(names) - {fault.name for fault in FAULTS}:
        raise typer.BadParameter(f"{', '.join(unknown)}: choose from {', '.join(fault.name for fault in FAULTS)}")
    found = [fault for fault in FAULTS if not names or fault.name in names]
    if os.geteuid() != 0:
        typer.echo("full disk: skipped, only root can mount a tmpfs", err=True)
        found = [fault for fault in found if not fault.needs_own_disk]
    return found


def main(names: Annotated[list[str] | None, typer.Argument(help="Faults; all if none is given.")] = None) -> None:
    """Print the table, each row as soon as it is known."""
    faults = chosen(names or [])
    steps = 2 * STEPS_A_FAULT * (len(faults) + 1)
    typer.echo("| fault | what the console says | seconds | exit code | newest checkpoint |\n|---|---|---|---|---|")
    with place(any(fault.needs_own_disk for fault in faults)) as runs_dir:
        given = ["train", *RECIPE, f"runs_dir={runs_dir}", f"trainer.total_training_steps={steps}"]
        for fault in faults:
            typer.echo(run_with(fault, start([*given, *fault.overrides]), runs_dir))
            given = ["resume", str((runs_dir / "latest").resolve())]
        last = start(given)
        output, _ = last.communicate(timeout=END_DEADLINE_S)
        run = (runs_dir / "latest").resolve()
        attempts = json.loads((run / "summary.json").read_text())["attempts"]
        once = recorded(run) == list(range(1, steps + 1))
        typer.echo(
            f"\nafter {len(faults)} faults and {attempts} attempts: exit code {last.returncode}, newest checkpoint "
            f"{newest(run)}, {f'steps 1 to {steps} recorded once each' if once else recorded(run)}"
        )
        if last.returncode != 0 or not once:
            raise typer.Exit(1)


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    app()
