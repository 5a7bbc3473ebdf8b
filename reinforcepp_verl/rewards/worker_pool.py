"""Worker processes that can be killed: a task that hangs, crashes or exhausts memory affects no other task."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import io
import logging
import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, TimeoutError
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import context, forkserver, popen_forkserver, reduction, spawn, util
from typing import Any, NamedTuple

from pebble import ProcessExpired, ProcessPool

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""Attempts per task when the pool breaks, because the task that broke it cannot be identified."""
START_ALLOWANCE_S = 60.0
"""Time in addition to the longest possible wait in the queue, after which the pool is considered dead."""
WAITING_FACTOR = 20
"""A task may take this many times its CPU time: on a busy machine it mostly waits for a core."""


class Outcome(NamedTuple):
    """The value of a task, or its failure: `timeout`, `crashed`, `memory` or `error: ...`."""

    value: Any
    failure: str = ""


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class _Popen(popen_forkserver.Popen):
    """Starts a worker without importing the caller's `__main__` in it.

    Tasks do not need it, in a Ray actor it would import all of Ray, and a script without a guard would start itself.
    """

    def _launch(self, process_obj: Any) -> None:
        preparation = spawn.get_preparation_data(process_obj.name)
        wanted = {name: value for name, value in preparation.items() if not name.startswith("init_main")}
        buffer = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump(wanted, buffer)
            reduction.dump(process_obj, buffer)
        finally:
            context.set_spawning_popen(None)
        self.sentinel, write_end = forkserver.connect_to_new_process(self._fds)  # type: ignore[attr-defined]
        self.finalizer = util.Finalize(self, _close, (os.dup(write_end), self.sentinel))
        with open(write_end, "wb") as pipe:
            pipe.write(buffer.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)


class _Process(context.ForkServerProcess):
    def start(self) -> None:
        """Start also in a daemonic process, as the workers of a `multiprocessing.Pool` are: these end with it."""
        parent = multiprocessing.current_process()
        daemonic, parent._config["daemon"] = parent.daemon, False  # type: ignore[attr-defined]
        try:
            super().start()
        finally:
            parent._config["daemon"] = daemonic  # type: ignore[attr-defined]

    @staticmethod
    def _Popen(process_obj: Any) -> _Popen:
        return _Popen(process_obj)


class _Context(context.ForkServerContext):
    """Forks workers from a process with their imports preloaded, so that replacing one takes milliseconds."""

    Process = _Process  # type: ignore[assignment]


def _limit_worker(memory_limit_mb: int, preload: tuple[str, ...]) -> None:
    """Set up a worker process: limit its memory, and end it at once on SIGTERM or when its parent exits.

    It imports what another pool's fork server has not, so that no task's time limit pays for that.
    """
    limit = memory_limit_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    for module in preload:
        with contextlib.suppress(ImportError):  # as the fork server does: the task will say what is missing
            importlib.import_module(module)


def _within_cpu_time(seconds: float, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function; the system ends this process when it has used so much CPU time, whatever it does."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return function(*args)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _die_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


class WorkerPool:
    """Runs functions in `workers` processes of at most `memory_limit_mb`, started on the first task. Thread-safe."""

    def __init__(self, workers: int, memory_limit_mb: int, preload: tuple[str, ...] = ()) -> None:
        self.workers = workers
        self.memory_limit_mb = memory_limit_mb
        self._preload = preload
        self._pool: ProcessPool | None = None
        self._lock = threading.Lock()
        self._waiting = 0

    def run(self, function: Callable[..., Any], *args: Any, time_limit_s: float) -> Outcome:
        """Call an importable function in a worker and wait for it. The limit is on the CPU time that it uses."""
        wall_limit_s = WAITING_FACTOR * time_limit_s
        with self._lock:
            self._waiting += 1
            before = self._waiting // self.workers + 1
        try:
            for _ in range(ATTEMPTS):
                pool = self._running()
                try:
                    limited = (time_limit_s, function, *args)
                    future = pool.schedule(_within_cpu_time, args=limited, timeout=wall_limit_s)
                    return Outcome(future.result(before * (wall_limit_s + 1) + START_ALLOWANCE_S))
                except ProcessExpired as expired:
                    return Outcome(None, "timeout" if expired.exitcode == -signal.SIGPROF else "crashed")
                except MemoryError:
                    return Outcome(None, "memory")
                except TimeoutError:
                    if not future.done():
                        self._discard(pool)
                    return Outcome(None, "timeout")
                except (BrokenProcessPool, CancelledError):
                    self._discard(pool)
                except Exception as error:
                    if pool.active:
                        return Outcome(None, f"error: {type(error).__name__}: {error}"[:200])
                    self._discard(pool)
            return Outcome(None, "crashed")
        finally:
            with self._lock:
                self._waiting -= 1

    def close(self) -> None:
        """Stop the workers; the next task starts new ones."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            _stop(pool)

    def _running(self) -> ProcessPool:
        with self._lock:
            if self._pool is None:
                workers_context = _Context()
                workers_context.set_forkserver_preload([__name__, *self._preload])
                limits = self.memory_limit_mb, self._preload
                self._pool = ProcessPool(
                    self.workers, initializer=_limit_worker, initargs=limits, context=workers_context
                )
            return self._pool

    def _discard(self, broken: ProcessPool) -> None:
        """Forget a broken pool, unless another thread already did."""
        with self._lock:
            if self._pool is not broken:
                return
            self._pool = None
        logger.warning("the pool of %d verifier processes broke and is restarted", self.workers)
        # In a thread: a pool that does not respond may not stop either.
        threading.Thread(target=_stop, args=(broken,), daemon=True).start()


def _stop(pool: ProcessPool) -> None:
    pool.stop()
    pool.join()


def _forget_parents_server() -> None:
    """Let a forked process start its own fork server, because it cannot wait for its parent's."""
    forkserver._forkserver.__init__()  # type: ignore[attr-defined,misc]


os.register_at_fork(after_in_child=_forget_parents_server)

_shared: dict[tuple[int, int, int, tuple[str, ...]], WorkerPool] = {}
_shared_lock = threading.Lock()


def shared_pool(workers: int, memory_limit_mb: int, preload: tuple[str, ...] = ()) -> WorkerPool:
    """Return this process's pool of that size and with these imports, closed when the process exits."""
    with _shared_lock:
        key = (os.getpid(), workers, memory_limit_mb, preload)  # a forked process inherits pools without their threads
        if key not in _shared:
            _shared[key] = WorkerPool(workers, memory_limit_mb, preload)
            atexit.register(_shared[key].close)
        return _shared[key]
