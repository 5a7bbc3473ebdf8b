"""Who can use the ports that a run listens on: SECURITY.md has the list."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
import zmq

from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.runs import processes

pytestmark = [pytest.mark.e2e, pytest.mark.long]

COMMAND = Path(sys.executable).with_name("reinforcepp")
DEADLINE_S = 400


def _listening(run: RunFolder) -> dict[int, tuple[str, str]]:
    """Return the ports of the run's processes: the address, and the name of the process."""
    found = {}
    for process in processes.find_all(str(run.path)):
        with contextlib.suppress(psutil.NoSuchProcess):
            for connection in process.net_connections():
                if connection.status == psutil.CONN_LISTEN:
                    found[connection.laddr.port] = (connection.laddr.ip, " ".join(process.cmdline())[:100])
    return found


def _is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback


def _join_ray(port: int) -> int:
    """Try to use the run's Ray without its token; return the exit code."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    script = f"import ray; ray.init('127.0.0.1:{port}'); print(ray.get(ray.remote(id).remote(1)))"
    command = ["timeout", "60", sys.executable, "-c", script]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode


def _status(port: int, path: str) -> int | None:
    """Return how the port answers a request, None if it does not speak HTTP."""
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=3).status
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, ValueError):
        return None
    except Exception as error:  # http.client raises many kinds for what is not HTTP
        assert "http.client" in type(error).__module__
        return None


def _send_a_message(port: int) -> None:
    context = zmq.Context()
    with context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 1000)
        socket.connect(f"tcp://127.0.0.1:{port}")
        socket.send_multipart([b"header", b"frame"])
    context.term()


def test_the_ports_of_a_run_are_on_loopback_and_ask_for_a_secret(start, workplace):
    options = ["trainer.total_training_steps=400", "trainer.val_before_train=false", "trainer.test_freq=-1"]
    # Forked processes have the command line of the fork server instead of their names.
    options += [f"+ray_kwargs.ray_init.runtime_env.py_executable={sys.executable}"]
    create = [COMMAND, "create", "+recipe=math_rlvr/arithmetic", *options]
    folder = subprocess.run(create, cwd=workplace, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    run = RunFolder(Path(folder))
    command = start(COMMAND, "resume", folder)
    end = time.monotonic() + DEADLINE_S
    while not (run.attempts() and run.attempts()[-1].training.exists()):
        assert command.poll() is None and time.monotonic() < end, command.output()
        time.sleep(0.5)

    ports = _listening(run)
    outside = {name for address, name in ports.values() if not _is_loopback(address)}
    assert all("WorkerDict" in name for name in outside), outside  # torch's rendezvous
    folder = Path(run.attempts()[-1].temporary.read_text().split()[0])
    assert folder.stat().st_mode & 0o077 == 0
    for path in ("/v1/models", "/invocations"):
        statuses = {port: _status(port, path) for port, (_, name) in ports.items() if "vLLMHttpServer" in name}
        assert 401 in statuses.values() and 200 not in statuses.values(), statuses
    assert _join_ray(next(port for port, (_, name) in ports.items() if "gcs_server" in name)) != 0
    queue = [port for port, (_, name) in ports.items() if "TransferQueue" in name]
    assert len(queue) >= 3
    for port in queue:
        _send_a_message(port)

    time.sleep(2)
    run.stop.touch()
    command.output(exit_code=75)
    assert "the message is not from a process of this run" in run.log.read_text()
    assert not folder.exists()
