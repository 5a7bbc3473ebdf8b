"""Turns the signals that ask a program to stop into a wish, then into an exception, and then into nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class Stopped(Exception):  # noqa: N818  (an event, not an error)
    """A signal said that the end cannot wait."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@contextmanager
def stopping_signals_raise(ask_first: Callable[[], None] | None = None) -> Iterator[Callable[[], None]]:
    """Raise `Stopped` on Ctrl-C, SIGTERM, SIGUSR1 and SIGHUP (a closed terminal); with `ask_first`, on the second one.

    `ask_first` is called at the first one. Yields a function that has further signals ignored until the block ends: one
    more Ctrl-C during the clean-up would leave processes behind.
    """
    may_ask = ask_first is not None

    def receive(number: int, _frame: FrameType | None) -> None:
        nonlocal may_ask
        if number == signal.SIGHUP:
            _forget_terminal()
        if not may_ask:
            raise Stopped(number)
        assert ask_first is not None
        may_ask = False
        ask_first()

    def ignore_from_now_on() -> None:
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)

    previous = {number: signal.signal(number, receive) for number in STOPPING}
    try:
        yield ignore_from_now_on
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _forget_terminal() -> None:
    """Send what would go to a terminal that is gone to nowhere; writing to it raises."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        if os.isatty(stream):
            os.dup2(nowhere, stream)
    os.close(nowhere)
