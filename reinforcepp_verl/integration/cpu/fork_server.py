"""One process that imports torch, transformers and vLLM once, and forks the processes of a run.

verl starts about ten Python processes, and on a CPU their imports take most of the time before the first step. Ray
(through `runtime_env.py_executable`) and vLLM (through `multiprocessing.set_executable`) start forked_python.py instead
of Python, and it has this server fork itself. The forks also share the memory of the imported modules. If the server
cannot work, it ends, and these processes start as usual.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import resource
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import setproctitle

from reinforcepp_verl.common.parent_process import end_with_parent
from reinforcepp_verl.integration.cpu import forked_python, vllm_alias
from reinforcepp_verl.integration.cpu.forked_process import ROOM, Request, run, take_over
from reinforcepp_verl.integration.cpu.forked_python import FORWARDED, LENGTH_BYTES

# Nothing that imports Ray, hence neither verl nor vLLM's engine: Ray seeds its random numbers for the first class that
# `ray.remote` decorates, and all forks would draw the same task ids. A fork imports Ray and verl in about a second.
MODULES = (
    *("torch", "transformers", "tensordict", "datasets", "peft", "hydra", "torchdata.stateful_dataloader"),
    *("vllm.engine.arg_utils", "vllm.v1.worker.cpu_worker", "vllm.entrypoints.openai.api_server"),
    "vllm.model_executor.models.llama",
)
SERVER_ENVIRONMENT = {
    # numpy would start threads when it is imported, which forks do not have.
    "OPENBLAS_NUM_THREADS": "1",
    # The title of a process would overwrite its environment, by which the processes of a run are found.
    "SPT_NOENV": "1",
    ROOM: "-" * 65536,
}
DISPENSABLE_THREADS = ("jemalloc_bg_thd",)
"""Threads that forks can do without: pyarrow's allocator turns its own off in a fork."""
MODULE = ("-m", "reinforcepp_verl.integration.cpu.fork_server")
SERVER = (sys.executable, *MODULE)
MOST_FILES = 253
"""The most descriptors that one message can carry."""


@dataclass(frozen=True)
class Child:
    """A fork, and the connection to the process that asked for it."""

    pid: int
    ended: int
    """A pidfd, readable when the fork has ended."""
    connection: socket.socket

    def report(self) -> None:
        """Send how the fork ended."""
        _, status = os.waitpid(self.pid, 0)
        with contextlib.suppress(OSError):  # The process that asked was killed.
            self.connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))

    def pass_signals_on(self) -> bool:
        """Send the fork the signals that its stand-in received, SIGKILL if that was killed; False after the last."""
        try:
            received = self.connection.recv(64)
        except ConnectionResetError:
            received = b""
        with contextlib.suppress(ProcessLookupError):  # It has ended by itself.
            for number in received or [signal.SIGKILL]:
                signal.pidfd_send_signal(self.ended, number)
        return bool(received)


@contextlib.contextmanager
def started(environment: Mapping[str, str], server: Sequence[str] = SERVER, **options: Any) -> Iterator[str | None]:
    """Start the server with this environment; yield the path of the program to run instead of Python.

    None if programs in the folder of temporary files cannot be written or run. The server ends with this process.
    `server` is its command, `options` are more arguments of `subprocess.Popen`.
    """
    # Ray keeps its sockets there too; the path of a socket must be short, and Ray does not quote the program's.
    with _temporary_folder() as folder:
        if folder is None:
            yield None
            return
        address, stand_in = f"{folder}/socket", Path(folder, "python")
        command = shlex.join([sys.executable, "-I", "-S", forked_python.__file__, address])
        stand_in.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
        stand_in.chmod(0o700)
        if not os.access(stand_in, os.X_OK):
            yield None
            return
        # Only the server has the listening socket: once it has ended, connecting fails instead of waiting.
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen(128)
            arguments = [*server, str(listener.fileno()), str(os.getpid())]
            own_environment = {**environment, **SERVER_ENVIRONMENT}
            subprocess.Popen(arguments, env=own_environment, pass_fds=[listener.fileno()], **options)
        yield str(stand_in)


@contextlib.contextmanager
def _temporary_folder() -> Iterator[str | None]:
    try:
        folder = TemporaryDirectory(prefix="reinforcepp-")
    except OSError:  # full or read-only
        yield None
        return
    with folder as path:
        yield path


def main(listener: socket.socket) -> None:
    """Import the modules, then fork a process for each connection; returns only in the forks, after their work."""
    signal.signal(signal.SIGTERM, functools.partial(_end, Path(listener.getsockname()).parent))
    # The server has two open files for each fork; a fork gets the limits of its request.
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    vllm_alias.install()
    for module in MODULES:
        importlib.import_module(module)
    check_that_forks_are_safe()
    # The first call locates the memory of the process title, which fails after a fork has replaced its environment.
    # vLLM names its engine by the title.
    setproctitle.getproctitle()
    # The collector would write to every object, and so copy the memory that forks share.
    gc.collect()
    gc.freeze()
    server = os.getpid()
    request, files = serve(listener)
    take_over(request, files, server)
    run(request.arguments)


def _end(folder: Path, *_: object) -> None:
    """Remove the folder of a process that was killed and could not do it itself."""
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def check_that_forks_are_safe() -> None:
    """Raise RuntimeError for Ray or a thread, which forks must not inherit, and OSError if the system has no pidfds."""
    if "ray" in sys.modules:
        raise RuntimeError("a module in MODULES imports Ray")
    for _ in range(20):
        if not (lost := _threads()):
            break
        time.sleep(0.05)  # It may be about to end.
    else:
        raise RuntimeError(f"the imports started threads, which forks do not have: {', '.join(lost)}")
    os.close(os.pidfd_open(os.getpid()))


def _threads() -> list[str]:
    """Return the names of the other threads that a fork would need."""
    names = []
    for thread in set(os.listdir("/proc/self/task")) - {str(os.getpid())}:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # It has ended.
            names.append(Path("/proc/self/task", thread, "comm").read_text().strip())
    return [name for name in names if name not in DISPENSABLE_THREADS]


def serve(listener: socket.socket) -> tuple[Request, list[int]]:
    """Fork a process for each connection; return only in the forks: the request and its open files."""
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if selector.get_map().get(key.fd) is not key:
                continue  # Closed by an earlier event of this round.
            if key.data is None:
                connection, _ = listener.accept()
                received = _receive(connection)
                if received is None:
                    connection.close()
                    continue
                pid = _fork()
                if pid == 0:
                    _close(selector, connection)
                    return received
                for number in received[1]:
                    os.close(number)
                if pid is None:
                    connection.close()  # Its stand-in then starts Python itself.
                    continue
                with contextlib.suppress(OSError):  # The process that asked was killed.
                    connection.sendall(forked_python.FORKED)
                child = Child(pid, os.pidfd_open(pid), connection)
                selector.register(child.ended, selectors.EVENT_READ, child)
                selector.register(connection, selectors.EVENT_READ, child)
            elif key.fileobj is key.data.connection:
                if not key.data.pass_signals_on():
                    selector.unregister(key.data.connection)
            else:
                key.data.report()
                _forget(selector, key.data)


def _receive(connection: socket.socket) -> tuple[Request, list[int]] | None:
    """Read a request; None if the process that asked was killed in the meantime."""
    head, files, _, _ = socket.recv_fds(connection, LENGTH_BYTES, MOST_FILES)
    length, content = int.from_bytes(head, "big"), b""
    while part := connection.recv(length - len(content)):
        content += part
    if head and len(content) == length:
        return Request(**json.loads(content)), files
    for number in files:
        os.close(number)
    return None


def _fork() -> int | None:
    """Fork; None if the system has no memory or number for another process.

    The fork does not get signals until `take_over` has replaced the server's handlers.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    try:
        pid = os.fork()
    except OSError:
        pid = None
    if pid != 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _forget(selector: selectors.BaseSelector, child: Child) -> None:
    selector.unregister(child.ended)
    os.close(child.ended)
    if child.connection in selector.get_map():
        selector.unregister(child.connection)
    child.connection.close()


def _close(selector: selectors.BaseSelector, connection: socket.socket) -> None:
    """Close what belongs to the server."""
    for key in list(selector.get_map().values()):
        if isinstance(key.fileobj, socket.socket):
            key.fileobj.close()
        else:
            os.close(key.fd)
    selector.close()
    connection.close()


if __name__ == "__main__":
    end_with_parent(int(sys.argv[2]))
    main(socket.socket(fileno=int(sys.argv[1])))
