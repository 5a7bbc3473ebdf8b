"""What a fork of the server becomes: the process that was asked for."""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import runpy
import signal
import sys
import tempfile
import types
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reinforcepp_verl.common.parent_process import end_with_server
from reinforcepp_verl.integration.cpu.forked_python import FORWARDED

ROOM = "REINFORCEPP_ROOM"
"""The server's variable that makes room for the environments of its forks (see `show_environment`)."""


@dataclass(frozen=True)
class Request:
    """What a process is started with; `files` are the numbers of its open files in the process that asks."""

    arguments: list[str]
    ends_with_parent: bool
    environment: dict[str, str]
    directory: str
    group: int
    priority: int
    file_mask: int
    blocked_signals: list[int]
    file_limits: list[int]
    files: list[int]


def take_over(request: Request, files: Sequence[int], server: int) -> None:
    """Give this process, a fork of process `server`, what a child of the one that asked would inherit."""
    soft, hard = request.file_limits
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    free = max(2, *files, *request.files) + 1
    moved = [fcntl.fcntl(number, fcntl.F_DUPFD, free) for number in files]
    for number in files:
        os.close(number)
    for number, target in zip(moved, request.files, strict=True):
        os.dup2(number, target)
        os.close(number)
    join_group(request.group)
    for received in FORWARDED:
        signal.signal(received, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, request.blocked_signals)
    os.setpriority(os.PRIO_PROCESS, 0, request.priority)
    os.umask(request.file_mask)
    os.environ.clear()
    os.environ.update(request.environment)
    os.environ.pop(ROOM, None)
    show_environment()
    if request.ends_with_parent:
        end_with_server(server)
    os.chdir(request.directory)
    added = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry and entry not in sys.path]
    sys.path[1:1] = added
    np.random.seed()
    # Found anew in the environment of the fork.
    tempfile.tempdir = None


def join_group(group: int) -> None:
    """Join a process group, by which Ray ends what a worker leaves behind, or begin one if it is in another session."""
    try:
        os.setpgid(0, group)
    except PermissionError:
        os.setsid()


def show_environment() -> None:
    """Let /proc/PID/environ have this fork's variables, as far as there is room, instead of the server's."""
    start, end = environment_area()
    content = b"".join(name + b"=" + value + b"\0" for name, value in os.environb.items())[: max(0, end - start - 1)]
    ctypes.memmove(start, content.ljust(end - start, b"\0"), end - start)


def environment_area() -> tuple[int, int]:
    """Return where in memory the kernel finds what it shows as the environment; zeros if it does not say."""
    after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return int(after_name[47]), int(after_name[48])


def run(arguments: list[str]) -> None:
    """Run what Python would run: `[-OPTION ...] SCRIPT | -c CODE | -m MODULE [ARGUMENT ...]`."""
    rest = list(arguments)
    while rest[0].startswith("-") and rest[0] not in ("-c", "-m"):
        del rest[: 2 if rest[0] in ("-X", "-W") else 1]
    if rest[0] == "-c":
        sys.argv = ["-c", *rest[2:]]
        _search_first("")
        sys.modules["__main__"] = main_module = types.ModuleType("__main__")
        exec(rest[1], main_module.__dict__)
    elif rest[0] == "-m":
        sys.argv = rest[1:]
        _search_first(os.getcwd())
        runpy.run_module(rest[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = rest
        _search_first(os.path.dirname(rest[0]))
        runpy.run_path(rest[0], run_name="__main__")


def _search_first(folder: str) -> None:
    if not getattr(sys.flags, "safe_path", False):  # Python 3.11 and later
        sys.path[0] = folder
