"""Turns the signals that ask a run to stop into exceptions, and then into nothing while the run is cleaned up."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):  # noqa: N818  (an event, not an error)
    """A stopping signal was received."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@contextmanager
def stopping_signals_raise() -> Iterator[Callable[[], None]]:
    """Raise `Stopped` on Ctrl-C, SIGTERM and SIGHUP (a closed terminal) inside the block.

    Yields a function that has further signals ignored until the block ends: a second Ctrl-C during the clean-up would
    leave processes behind.
    """

    def raise_stopped(number: int, _frame: FrameType | None) -> None:
        raise Stopped(number)

    def ignore_from_now_on() -> None:
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)

    previous = {number: signal.signal(number, raise_stopped) for number in STOPPING}
    try:
        yield ignore_from_now_on
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
