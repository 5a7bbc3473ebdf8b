"""Watches the peak memory of each process of a run."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from reinforcepp_verl.runs.processes import RUN_VARIABLE

INTERVAL_S = 1.0
# Adding up takes a tenth of a second.
LOOKS_PER_SUM = 5
ALL = "all together"
GB = 1e9
# Ray and vLLM set the titles of their processes: an actor's class with the method it runs, or an engine's role.
TITLE = re.compile(r"(ray::\w+|VLLM::\w+)")
# On a CPU, Ray's workers are forks, which have the command line of the process they are forked from. The largest is the
# trainer.
FORKED, FORK_NAME = "fork_server", "Ray's worker"


@contextmanager
def peak_memory_of_runs_in(folder: Path) -> Iterator[dict[str, float]]:
    """Yield a table that fills with the highest resident memory, in GB, of the processes of runs in `folder`.

    Of several processes of one name it keeps the largest. Memory that processes share counts for each of them, but in
    parts for all of them together.
    """
    peaks: dict[str, float] = {}
    ended = threading.Event()

    def watch() -> None:
        looks = 0
        while not ended.wait(INTERVAL_S):
            adds_up, together = looks % LOOKS_PER_SUM == 0, 0.0
            for process in psutil.process_iter():
                try:
                    if process.environ().get(RUN_VARIABLE, "").startswith(str(folder)):
                        name = _name(process)
                        peaks[name] = max(peaks.get(name, 0.0), _peak(process))
                        together += process.memory_full_info().pss / GB if adds_up else 0.0
                except (psutil.Error, OSError):
                    # It has ended meanwhile, or belongs to another user.
                    continue
            peaks[ALL] = max(peaks.get(ALL, 0.0), together)
            looks += 1

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peaks
    finally:
        ended.set()
        watcher.join()


def _name(process: psutil.Process) -> str:
    command = " ".join(process.cmdline())
    title = TITLE.search(command)
    return title.group() if title else FORK_NAME if FORKED in command else process.name()


def _peak(process: psutil.Process) -> float:
    """Return what Linux remembers as the highest resident size of the process, in GB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    kilobytes = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")), "0")
    return int(kilobytes) * 1024 / GB
