"""Only processes of a run can make the TransferQueue unpickle anything: the attack of another process, for real."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch
import zmq
from transfer_queue.utils import zmq_utils
from transfer_queue.utils.serial_utils import _PICKLE_FALLBACK_SENTINEL

from reinforcepp_verl.integration import message_authentication, verl_patches
from reinforcepp_verl.integration.cpu.environment import CPU_ENVIRONMENT

# A run's driver without the training: its Ray, the queue, a row written before and read after the attack.
DRIVER = """
import sys
import ray, torch, transfer_queue as tq
from tensordict import TensorDict
from omegaconf import OmegaConf
from reinforcepp_verl.common.slow_ray_start import retry_slow_ray_start
from reinforcepp_verl.integration import verl_patches

verl_patches.install()
hook = {"worker_process_setup_hook": verl_patches.SETUP_HOOK} if sys.argv[1] == "authenticated" else {}
retry_slow_ray_start(ray.init, address="local", num_cpus=4, include_dashboard=False, runtime_env=hook)
tq.init(OmegaConf.create({"backend": {"SimpleStorage": {"num_data_storage_units": 1}}}))
tq.kv_put(key="row", partition_id="train", fields=TensorDict({"x": torch.arange(3)[None]}, [1]), tag={})
print("ready", flush=True)
sys.stdin.readline()
print("read", *tq.kv_batch_get(keys=["row"], partition_id="train")["x"].unbind(), flush=True)
"""


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.fixture
def secret(monkeypatch):
    monkeypatch.setattr(message_authentication, "run_secret", lambda: b"s" * 32)


@pytest.fixture
def queue_of(tmp_path):
    """Return a function that starts a run's Ray and queue in another process, which is killed with all its children."""
    started = []

    def start(mode: str) -> subprocess.Popen:
        environment = {**os.environ, **CPU_ENVIRONMENT, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
        if mode == "authenticated":
            environment[message_authentication.VARIABLE] = "1"
        log = (tmp_path / "driver.log").open("w")
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", DRIVER, mode],
                text=True,
                env=environment,
                **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log},
            )
        )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            family = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            for member in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
        process.wait()


def _until(process: subprocess.Popen, word: str) -> str:
    for line in process.stdout:
        if line.startswith(word):
            return line
    raise AssertionError(f"the driver ended with {process.wait()}")


def _ports_of_the_queue(driver: int) -> list[str]:
    """Return the addresses that the queue's processes listen on."""
    return [
        f"tcp://127.0.0.1:{connection.laddr.port}"
        for process in psutil.Process(driver).children(recursive=True)
        if any("TransferQueue" in word for word in process.cmdline())
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    ]


def _attack(address: str, payload: bytes) -> None:
    """Send a pickle in the two forms that a message may have."""
    context = zmq.Context()
    with context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 1000)
        socket.connect(address)
        for frames in ([_PICKLE_FALLBACK_SENTINEL, payload], [b"\0" * 32, _PICKLE_FALLBACK_SENTINEL, payload]):
            socket.send_multipart(frames)
    context.term()


@pytest.mark.parametrize("mode", [pytest.param("open", marks=pytest.mark.long), "authenticated"])
def test_a_process_that_does_not_know_the_secret_cannot_run_code(queue_of, tmp_path, mode):
    """As `open`, it can, which is why the patch is needed."""
    driver = queue_of(mode)
    _until(driver, "ready")
    addresses = _ports_of_the_queue(driver.pid)
    assert len(addresses) >= 3
    files = [tmp_path / f"port{number}" for number in range(len(addresses))]
    for address, file in zip(addresses, files, strict=True):
        _attack(address, pickle.dumps(Payload(file)))
    driver.stdin.write("\n")
    driver.stdin.flush()
    # The queue answers in order, so that it has seen the attack.
    assert _until(driver, "read") == "read tensor([0, 1, 2])\n"
    assert any(file.exists() for file in files) == (mode == "open")


def test_what_is_signed_is_read(secret):
    tensor = torch.arange(6)
    message = zmq_utils.ZMQMessage.create(zmq_utils.ZMQRequestType.PUT_DATA, "a", {"x": tensor, "y": torch.float32})
    for frames in (message.serialize(), [b"header", tensor.numpy()]):
        assert message_authentication.verified(message_authentication.signed(frames)) == list(frames)


@pytest.mark.parametrize(
    "changed",
    [
        lambda frames: [],
        lambda frames: frames[1:],
        lambda frames: [b"", *frames[1:]],
        lambda frames: [b"\0" * 32, *frames[1:]],
        lambda frames: [frames[0], b"HEADER", *frames[2:]],
        lambda frames: [*frames, b""],
        lambda frames: [*frames[:2], b"123"],
        lambda frames: [frames[0], _PICKLE_FALLBACK_SENTINEL, *frames[2:]],
    ],
)
def test_what_was_changed_is_refused(secret, changed):
    frames = message_authentication.signed([b"header", b"1234"])
    with pytest.raises(ValueError, match="not from a process of this run"):
        message_authentication.verified(changed(frames))


def test_a_message_that_is_one_pickle_is_signed_whole(secret):
    frames = message_authentication.signed([_PICKLE_FALLBACK_SENTINEL, b"pickle"])
    assert message_authentication.verified(frames) == frames[1:]
    with pytest.raises(ValueError, match="not from a process of this run"):
        message_authentication.verified([*frames[:2], b"PICKLE"])


def test_the_patch_is_applied_once_and_only_in_a_run(secret, monkeypatch):
    class Message(zmq_utils.ZMQMessage):
        pass

    module = type("module", (), {"ZMQMessage": Message, "ZMQMessageDecodeError": zmq_utils.ZMQMessageDecodeError})
    monkeypatch.delenv(message_authentication.VARIABLE, raising=False)
    verl_patches.authenticate_messages(module)
    message = Message.create(zmq_utils.ZMQRequestType.PUT_DATA, "a", {"x": 1})
    plain = message.serialize()
    monkeypatch.setenv(message_authentication.VARIABLE, "1")
    for _ in range(2):
        verl_patches.authenticate_messages(module)
    assert message.serialize()[1:] == plain
    assert Message.deserialize(message.serialize()).body == {"x": 1}
    with pytest.raises(zmq_utils.ZMQMessageDecodeError, match="not from a process of this run"):
        Message.deserialize(plain)
