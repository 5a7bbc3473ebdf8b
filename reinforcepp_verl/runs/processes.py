"""Finds and ends every process of a run, wherever Ray and vLLM have moved it in the process tree."""

from __future__ import annotations

import os

import psutil

# Every process of a run inherits this variable; its value is the run's folder.
RUN_VARIABLE = "REINFORCEPP_RUN"
GRACE_S = 5.0


def find_all(run: str) -> list[psutil.Process]:
    """Return the live processes that carry the mark of `run`, except this one and its ancestors."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [process for process in psutil.process_iter() if process.pid not in own and _mark(process) == run]


def terminate_all(run: str, grace_s: float = GRACE_S) -> int:
    """Terminate the processes of `run`, then kill the remaining ones; return how many there were.

    Raises:
        RuntimeError: some survive SIGKILL
    """
    found: set[int] = set()
    for send, spare_trackers in (("terminate", True), ("kill", True), ("kill", False), ("kill", False)):
        processes = find_all(run)
        if not processes:
            return len(found)
        found.update(process.pid for process in processes)
        for process in processes:
            if not (spare_trackers and _is_resource_tracker(process)):
                _signal(process, send)
        psutil.wait_procs(processes, timeout=grace_s)
    if survivors := find_all(run):
        raise RuntimeError(f"processes {[process.pid for process in survivors]} of {run} could not be killed")
    return len(found)


def _is_resource_tracker(process: psutil.Process) -> bool:
    """Python's resource tracker ends by itself after its last client, once it has removed their shared memory."""
    try:
        return any("multiprocessing.resource_tracker" in argument for argument in process.cmdline())
    except psutil.Error:
        return False


def _mark(process: psutil.Process) -> str | None:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return process.environ().get(RUN_VARIABLE)
    except psutil.Error:
        # It has ended meanwhile, or belongs to another user: not ours either way.
        return None


def _signal(process: psutil.Process, method: str) -> None:
    try:
        getattr(process, method)()
    except psutil.NoSuchProcess:
        pass
