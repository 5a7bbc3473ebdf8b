"""Ends a process together with its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


_server: int | None = None


def end_with_parent(parent: int) -> None:
    """Let the kernel send SIGTERM to this process when its parent, process `parent`, ends, even if it is killed.

    A fork for a stand-in that ends with `parent` ends with the server that forked it instead: its parent.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() not in (parent, _server):
        sys.exit("the process that started this one has ended")


def end_with_server(server: int) -> None:
    """Let this fork end with the server, process `server`, now and where it calls `end_with_parent`."""
    global _server
    _server = server
    end_with_parent(server)
