"""Ends a weight update that the engine has failed: verl's FSDP worker would wait for its answer forever.

verl's worker starts the update in the engine by a call through Ray, then sends the weights over a socket, and looks at
the result of the call only at the end. An engine that raises an error, or dies, no longer answers on that socket.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any

import wrapt
import zmq

ROLLOUT_MODULE = "verl.workers.rollout.vllm_rollout.vllm_rollout"
METHODS = ("update_weights_from_ipc", "update_verl_delta_weights")
POLL_MS = 200

_CALL: ContextVar[Future[Any] | None] = ContextVar("reinforcepp_weight_update", default=None)
"""The call of the weight update in progress; None in a worker that sends to an engine which another one has called."""


class WatchedSocket(wrapt.ObjectProxy):
    """The sender's socket; waiting on it raises the error of the engine's call as soon as there is one."""

    def __init__(self, socket: zmq.Socket[bytes], call: Future[Any]) -> None:
        super().__init__(socket)
        self._self_call = call

    def recv(self, *args: Any, **kwargs: Any) -> Any:
        """Wait for the answer of the engine."""
        self._wait(zmq.POLLIN)
        return self.__wrapped__.recv(*args, **kwargs)

    def send_pyobj(self, *args: Any, **kwargs: Any) -> Any:
        """Wait for the engine to be connected, and send it an object."""
        self._wait(zmq.POLLOUT)
        return self.__wrapped__.send_pyobj(*args, **kwargs)

    def _wait(self, event: int) -> None:
        while not self.__wrapped__.poll(POLL_MS, event):
            if self._self_call.done() and (error := self._self_call.exception()):
                raise error


def watch(module: Any) -> None:
    """Let the rollout of an FSDP worker remember its call of the engine, and its sender watch that call."""
    rollout, sender = module.ServerAdapter, module.BucketedWeightSender
    if not hasattr(rollout._execute_method, "__wrapped__"):
        rollout._execute_method = _remembered(rollout._execute_method)
        sender._init_socket = _watched(sender._init_socket)


def _remembered(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def execute(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        result = await original(self, method, *args, **kwargs)
        if method in METHODS:
            _CALL.set(result.future() if result is not None else None)
        return result

    return execute


def _watched(original: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(original)
    def init_socket(self: Any) -> None:
        original(self)
        if (call := _CALL.get()) is not None:
            self.socket = WatchedSocket(self.socket, call)

    return init_socket


def install() -> None:
    """Apply it as soon as verl's rollout is imported."""
    wrapt.register_post_import_hook(watch, ROLLOUT_MODULE)
