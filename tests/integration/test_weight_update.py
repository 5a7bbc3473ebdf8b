"""A weight update that the engine fails ends with the engine's error; sender and receiver are verl's own."""

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
import torch
from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightReceiver, BucketedWeightSender
from verl.workers.rollout.vllm_rollout.vllm_rollout import ServerAdapter

pytestmark = pytest.mark.timeout(60)
WEIGHTS = [("a", torch.ones(2)), ("b", torch.ones(2))]


class Call:
    """A call of an actor that runs in a thread of this process."""

    def __init__(self, function):
        self._future: Future[None] = Future()
        threading.Thread(target=self._run, args=(function,), daemon=True).start()

    def _run(self, function):
        try:
            self._future.set_result(function())
        except RuntimeError as error:
            self._future.set_exception(error)

    def future(self):
        return self._future

    def __await__(self):
        return asyncio.wrap_future(self._future).__await__()


def update(socket: str, engine, weights=WEIGHTS) -> None:
    """Update the weights as an FSDP worker does; `engine` is what its engine does, None if another worker calls it."""
    server = SimpleNamespace(
        collective_rpc=SimpleNamespace(remote=lambda method, **kwargs: Call(engine)),
        clear_kv_cache=SimpleNamespace(remote=lambda: asyncio.sleep(0)),
    )
    adapter = object.__new__(ServerAdapter)
    vars(adapter).update(
        config=SimpleNamespace(checkpoint_engine=SimpleNamespace(update_weights_bucket_megabytes=1)),
        server_handle=server,
        zmq_handle=socket,
        use_shm=True,
        replica_rank=1,
        rollout_rank=0,
        _has_server=engine is not None,
    )
    asyncio.run(adapter.update_weights(iter(weights)))


def receive(socket: str, load) -> None:
    receiver = BucketedWeightReceiver(socket, device=torch.device("cpu"), use_shm=True)
    receiver.receive_weights(on_bucket_received=load)


@pytest.fixture
def socket(tmp_path) -> str:
    return f"ipc://{tmp_path}/socket"


def test_an_update_that_succeeds_is_unchanged(socket):
    loaded = []
    update(socket, lambda: receive(socket, lambda weights, is_last: loaded.extend(name for name, _ in weights)))
    assert loaded == ["a", "b"]


def test_an_engine_that_cannot_load_a_weight_ends_it(socket):
    def refuse(weights, is_last):
        raise RuntimeError("'lm_head.weight' was skipped")

    with pytest.raises(RuntimeError, match="was skipped"):
        update(socket, lambda: receive(socket, refuse))


def test_an_engine_that_fails_before_it_connects_ends_it(socket):
    def fail():
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        update(socket, fail)


def test_an_engine_that_fails_without_an_answer_ends_it(socket):
    def vanish():
        receiver = BucketedWeightReceiver(socket, device=torch.device("cpu"), use_shm=True)
        receiver._init_socket()
        receiver.socket.recv()
        receiver._cleanup()
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        update(socket, vanish)


def test_a_worker_that_does_not_call_the_engine_sends_as_before(socket):
    loaded = []
    engine = threading.Thread(target=receive, args=(socket, lambda weights, is_last: loaded.extend(weights)))
    engine.start()
    update(socket, None)
    engine.join()
    assert [name for name, _ in loaded] == ["a", "b"]


def test_a_tensor_larger_than_the_bucket_is_refused(socket):
    def answer_once():
        receiver = BucketedWeightReceiver(socket, device=torch.device("cpu"), use_shm=True)
        receiver._init_socket()
        receiver._init_buffer()
        receiver._cleanup()

    with pytest.raises(AssertionError, match="increase rollout.update_weights_bucket_megabytes"):
        update(socket, answer_once, [("large", torch.ones(2**19))])


def test_verl_still_waits_for_the_socket_alone():
    source = inspect.getsource(BucketedWeightSender)
    assert "self.socket.recv()" in source and "poll" not in source, "verl may see it itself: weight_update can go"
