"""Stands in for the Python interpreter: the fork server runs the given script in a fork, as if it were started here.

    python -I -S forked_python.py SOCKET [--end-with PID] [-OPTION ...] SCRIPT | -c CODE | -m MODULE [ARGUMENT ...]

Replaced by Python itself if the server has ended. With --end-with, the script ends with the process that started it,
whose number is PID, even if that is killed. Imports only the standard library, so that it starts quickly.
"""

import json
import os
import resource
import signal
import socket
import sys

VARIABLE = "REINFORCEPP_PYTHON"
"""Environment variable with the program to run instead of Python, in the processes of a run that has a fork server."""
END_WITH = "--end-with"
PR_SET_PDEATHSIG = 1
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


def end_with(parent: int) -> None:
    """Let the kernel send SIGTERM to this process, and to Python if that replaces it, when its parent ends."""
    import ctypes  # takes as long as everything else here

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the process that started this one has ended")


def request_fork(path: str, arguments: list[str], ends_with_parent: bool) -> socket.socket | None:
    """Return the connection to the server once it has forked; None if it has ended."""
    files = open_files()
    request = {
        "arguments": arguments,
        "ends_with_parent": ends_with_parent,
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


def main(path: str, arguments: list[str]) -> None:
    """Have the server run a script, or become Python."""
    if guarded := arguments[0] == END_WITH:
        end_with(int(arguments[1]))
        arguments = arguments[2:]
    if connection := request_fork(path, arguments, guarded):
        follow(connection)
    os.execv(sys.executable, [sys.executable, *arguments])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
