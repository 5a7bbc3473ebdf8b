"""Stands in for the Python interpreter: has the fork server run what it is given, in a process like a child of its own.

    python -I -S forked_python.py SOCKET [-OPTION ...] SCRIPT | -c CODE [ARGUMENT ...]

Imports the standard library only, so that it starts in no time.
"""

import json
import os
import signal
import socket
import sys

VARIABLE = "REINFORCEPP_PYTHON"
"""Environment variable with the program to run in place of Python, in the processes of a run that has a fork server."""
LENGTH_BYTES = 8
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)


def open_files() -> list[int]:
    """List the file descriptors that a child would inherit."""
    found = [int(name) for name in os.listdir("/proc/self/fd")]
    return [number for number in found if number < 3 or _is_inheritable(number)]


def _is_inheritable(number: int) -> bool:
    try:
        return os.get_inheritable(number)
    except OSError:  # that of the listing itself
        return False


def main(path: str, arguments: list[str]) -> None:
    """Hand over arguments, environment and open files; then forward signals, and end as the process ends."""
    files = open_files()
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    for forwarded in FORWARDED:
        signal.signal(forwarded, lambda received, _frame: connection.send(bytes([received])))
    request = {
        "arguments": arguments,
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "group": os.getpgrp(),
        "files": files,
    }
    content = json.dumps(request).encode()
    socket.send_fds(connection, [len(content).to_bytes(LENGTH_BYTES, "big")], files)
    connection.sendall(content)
    for number in files:
        os.close(number)
    status = connection.recv(4)
    # Without an answer the server is gone; a process that a signal ended has a negative code.
    code = int.from_bytes(status, "big", signed=True) if status else 1
    if code < 0:
        if -code in FORWARDED:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
