"""Stands in for the Python interpreter: the fork server runs the given script in a fork, as if it were started here.

    python -I -S forked_python.py SOCKET [-OPTION ...] SCRIPT | -c CODE | -m MODULE [ARGUMENT ...]

Replaced by Python itself if the server has ended. Imports only the standard library, so that it starts quickly.
"""

import json
import os
import resource
import signal
import socket
import sys

VARIABLE = "REINFORCEPP_PYTHON"
"""Environment variable with the program to run instead of Python, in the processes of a run that has a fork server."""
LENGTH_BYTES = 8
FORKED = b"\1"
"""The server's first answer, before the exit code."""
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)


def open_files() -> list[int]:
    """List the file descriptors that a child would inherit."""
    return [number for number in map(int, os.listdir("/proc/self/fd")) if _is_inherited(number)]


def _is_inherited(number: int) -> bool:
    try:
        return os.get_inheritable(number)
    except OSError:  # the descriptor of the listing itself
        return False


def _file_mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def request_fork(path: str, arguments: list[str]) -> socket.socket | None:
    """Return the connection to the server once it has forked; None if it has ended."""
    files = open_files()
    request = {
        "arguments": arguments,
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "group": os.getpgrp(),
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
        "file_mask": _file_mask(),
        "blocked_signals": list(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "file_limits": resource.getrlimit(resource.RLIMIT_NOFILE),
        "files": files,
    }
    content = json.dumps(request).encode()
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(path)
        socket.send_fds(connection, [len(content).to_bytes(LENGTH_BYTES, "big")], files)
        connection.sendall(content)
        forked = connection.recv(len(FORKED))
    except OSError:
        forked = b""
    if forked:
        for number in files:
            os.close(number)
        return connection
    connection.close()
    return None


def follow(connection: socket.socket) -> None:
    """Forward signals to the fork, and end as it ends."""
    for forwarded in FORWARDED:
        signal.signal(forwarded, lambda received, _frame: connection.send(bytes([received])))
    status = connection.recv(4)
    # Without an answer the server has ended; a process that a signal ended has a negative code.
    code = int.from_bytes(status, "big", signed=True) if status else 1
    if code < 0:
        if -code in FORWARDED:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    if connected := request_fork(sys.argv[1], sys.argv[2:]):
        follow(connected)
    os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
