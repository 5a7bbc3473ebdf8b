"""Handles stop signals: the first one requests a stop, the second one raises, further ones are ignored."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SAME_REQUEST_S = 2.0
"""Signals within this time count as one: a hang-up or `scancel` may arrive several times, through other processes."""
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class Stopped(BaseException):
    """A signal requested an immediate end; no library may take it for an error of its own, as OmegaConf does."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@contextmanager
def raise_on_stop_signals(ask_first: Callable[[], None] | None = None) -> Iterator[Callable[[], None]]:
    """Raise `Stopped` on Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP (a closed terminal); with `ask_first`, on the second one.

    `ask_first` is called on the first one. Yields a function that makes further signals ignored until the block ends:
    another Ctrl-C during the cleanup would leave processes behind.
    """
    terminals = [stream for stream in (1, 2) if os.isatty(stream)]
    asked_at: float | None = None

    def receive(number: int, _frame: FrameType | None) -> None:
        nonlocal asked_at
        if number == signal.SIGHUP:
            _forget(terminals)
        now = time.monotonic()
        if ask_first is not None and asked_at is None:
            asked_at = now
            ask_first()
        elif asked_at is None or now - asked_at > SAME_REQUEST_S:
            raise Stopped(number)

    def ignore_from_now_on() -> None:
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)

    # Under `nohup` SIGHUP stays ignored.
    handled = [n for n in STOPPING if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
    previous = {number: signal.signal(number, receive) for number in handled}
    try:
        yield ignore_from_now_on
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _forget(terminals: list[int]) -> None:
    """Redirect output to a closed terminal to /dev/null: writing to it would raise."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in terminals:
        os.dup2(nowhere, stream)
    os.close(nowhere)
