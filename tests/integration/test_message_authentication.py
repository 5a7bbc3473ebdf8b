"""Only processes of a run can make the TransferQueue unpickle anything: the attack of another process, for real."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import pickle
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
import zmq
from transfer_queue.utils import zmq_utils
from transfer_queue.utils.serial_utils import _PICKLE_FALLBACK_SENTINEL
from zmq.utils.monitor import recv_monitor_message

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
def certificate(tmp_path):
    """Return Ray's variables for TLS, with a certificate that is its own authority."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*new, *names, "-keyout", key, "-out", cert], check=True, capture_output=True)
    files = {"RAY_TLS_SERVER_CERT": cert, "RAY_TLS_SERVER_KEY": key, "RAY_TLS_CA_CERT": cert}
    return {"RAY_USE_TLS": "1", **{name: str(file) for name, file in files.items()}}


@pytest.fixture
def queue_of(tmp_path):
    """Return a function that starts a run's Ray and queue in another process, which is killed with all its children."""
    started = []

    def start(mode: str, **variables: str) -> subprocess.Popen:
        environment = {**os.environ, **CPU_ENVIRONMENT, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", **variables}
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
    with context.socket(zmq.DEALER) as client:
        client.setsockopt(zmq.LINGER, 1000)
        client.connect(address)
        for frames in ([_PICKLE_FALLBACK_SENTINEL, payload], [b"\0" * 32, _PICKLE_FALLBACK_SENTINEL, payload]):
            client.send_multipart(frames)
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


@pytest.mark.long
def test_with_rays_tls_the_queue_works_and_its_connections_are_encrypted(queue_of, certificate, secret):
    driver = queue_of("authenticated", **certificate)
    _until(driver, "ready")
    addresses = _ports_of_the_queue(driver.pid)
    assert len(addresses) >= 3
    # A listener of CurveZMQ does not speak to one that does not; without encryption, this is a handshake.
    assert not any(_speaks_in_the_clear(address) for address in addresses)
    driver.stdin.write("\n")
    driver.stdin.flush()
    assert _until(driver, "read") == "read tensor([0, 1, 2])\n"


def _speaks_in_the_clear(address: str) -> bool:
    context = zmq.Context()
    with context.socket(zmq.DEALER) as client, client.get_monitor_socket() as monitor:
        client.setsockopt(zmq.LINGER, 0)
        client.connect(address)
        succeeded = False
        while not succeeded and monitor.poll(3000):
            event = recv_monitor_message(monitor)["event"]
            succeeded = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            if event in (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.EVENT_DISCONNECTED):
                break
    context.term()
    return succeeded


class Recorder:
    """Passes a connection on to a server, as the network does, and keeps what the client sent."""

    def __init__(self, server_port: int) -> None:
        self.sent = bytearray()
        self.address = ("127.0.0.1", server_port)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._pass_on, daemon=True).start()

    def _pass_on(self) -> None:
        client, _ = self.listener.accept()
        with client, socket.create_connection(self.address) as server:
            threading.Thread(target=self._copy, args=(server, client, bytearray()), daemon=True).start()
            self._copy(client, server, self.sent)

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket, kept: bytearray) -> None:
        while content := source.recv(65536):
            kept += content
            target.sendall(content)

    def replay(self) -> socket.socket:
        """Send it again, under another name from a connection of its own, which is returned."""
        connection = socket.create_connection(self.address)
        stream = self.sent.replace(b"TQ_STORAGE_1", b"TQ_STORAGE_2")
        # The two parts of ZeroMQ's greeting are each answered, then come the handshake and the message.
        for part in (stream[:10], stream[10:64]):
            connection.sendall(part)
            connection.recv(64)
        connection.sendall(stream[64:])
        return connection


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_recorded_message_is_of_no_use_where_connections_are_encrypted(secret, monkeypatch, encrypted):
    """Without encryption it is read twice, which is why SECURITY.md names it."""
    monkeypatch.setenv(message_authentication.VARIABLE, "1")
    monkeypatch.setenv("RAY_USE_TLS", str(int(encrypted)))
    own = functools.partial(inspect.unwrap(zmq_utils.create_zmq_socket))
    module, user = SimpleNamespace(create_zmq_socket=own), SimpleNamespace(create_zmq_socket=own)
    monkeypatch.setitem(sys.modules, "transfer_queue.user", user)  # imported before
    for _ in range(2):
        verl_patches.encrypt_connections(module)
    assert user.create_zmq_socket is module.create_zmq_socket
    context = zmq.Context()
    server = module.create_zmq_socket(context, zmq.ROUTER, "127.0.0.1")
    recorder = Recorder(server.bind_to_random_port("tcp://127.0.0.1"))
    client = module.create_zmq_socket(context, zmq.DEALER, "127.0.0.1", identity=b"TQ_STORAGE_1")
    client.connect(f"tcp://127.0.0.1:{recorder.port}")
    client.send_multipart(message_authentication.signed([b"overwrite row 7"]))
    assert server.poll(5000)
    _, *frames = server.recv_multipart()
    assert message_authentication.verified(frames) == [b"overwrite row 7"]
    client.close(linger=0)
    assert (b"overwrite row 7" in recorder.sent) != encrypted

    with recorder.replay():
        assert bool(server.poll(1000)) != encrypted
    server.close(linger=0)
    context.term()


def test_a_process_without_the_secret_cannot_connect_to_an_encrypted_socket(secret, monkeypatch):
    context = zmq.Context()
    server, client = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    message_authentication.encrypt(server)
    port = server.bind_to_random_port("tcp://127.0.0.1")
    monkeypatch.setattr(message_authentication, "run_secret", lambda: b"t" * 32)
    message_authentication.encrypt(client)
    client.connect(f"tcp://127.0.0.1:{port}")
    client.send(b"x")
    assert not server.poll(1000)
    for end in (client, server):
        end.close(linger=0)
    context.term()


def test_all_sockets_of_the_queue_are_created_by_the_function_that_is_patched():
    folder = Path(inspect.getfile(zmq_utils)).parents[1]
    others = [
        (file.name, line)
        for file in folder.rglob("*.py")
        for line in file.read_text().splitlines()
        if re.search(r"(?:context|ctx)\.socket\(", line)
    ]
    assert others == [("zmq_utils.py", "    socket = ctx.socket(socket_type)")]
