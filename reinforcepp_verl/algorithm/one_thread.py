"""Runs a function on one torch thread.

An estimator is many operations of less than a millisecond. With several threads each of them ends when the last thread
has done its part; if other processes keep the cores busy, that one first waits for its turn, a hundred times longer
than its part takes. One thread needs about 0.1 s for 1024 x 8192 tokens, and its results do not depend on the number.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def one_thread(function: Callable[P, R]) -> Callable[P, R]:
    """Limit the operations in `function` to one thread; afterwards the caller has the number that it had before."""

    @functools.wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> R:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return function(*args, **kwargs)
        finally:
            torch.set_num_threads(threads)

    return limited
