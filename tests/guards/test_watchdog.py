"""The watch over the parts of a run, on real Ray actors with the parts' names: dead, asked to end, hung, just busy."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
import ray

from reinforcepp_verl.guards import watchdog
from reinforcepp_verl.guards.actors import find_parts
from reinforcepp_verl.guards.process_names import TITLES, title_of
from reinforcepp_verl.guards.watchdog import Watch, training_place

DEADLINE_S = 1.0
LONG_S = 30.0


@ray.remote(num_cpus=0)
class Worker:
    async def pid(self):
        return os.getpid()

    async def block(self, seconds):
        time.sleep(seconds)

    async def slow(self, seconds):
        await asyncio.sleep(seconds)


@ray.remote(num_cpus=0)
class Server:
    """As verl's: `engine` reaches the engine process, and there is none while the model loads."""

    async def load(self):
        self.engine, self.state = self, "up"
        self._server_task = asyncio.create_task(asyncio.sleep(60))

    async def become(self, state):
        self.state = state

    async def collective_rpc(self, method):
        assert method == "check_health"
        if self.state == "dead":
            raise RuntimeError("vllm.v1.engine.exceptions.EngineDeadError: see above")
        while self.state == "hung":
            await asyncio.sleep(0.1)


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def watched():
    return Watch(DEADLINE_S, None)


@pytest.fixture
def start():
    """Return a function that starts an actor under a part's name; all are ended after the test."""
    started = []

    def start_actor(name, actor=Worker, namespace=None):
        handle = actor.options(name=name, namespace=namespace).remote()
        ray.get(handle.__ray_ready__.remote())
        started.append(handle)
        return handle

    yield start_actor
    for handle in started:
        ray.kill(handle)


def wait_until(condition: Callable[[], object], timeout_s: float):
    """Return the first result that is not None or False."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    return None


def pid_of(handle):
    return ray.get(handle.pid.remote())


def test_a_part_that_was_asked_to_end_is_no_trouble(watched, start):
    handle = start("reward_loop_worker_1")
    assert watched.look() is None
    ray.kill(handle)
    time.sleep(1)
    assert watched.look() is None


def test_a_stopped_data_plane_is_told_from_one_that_answers(watched, start):
    pid = pid_of(start("TransferQueueController", namespace="transfer_queue"))
    wait_until(lambda: watched.look() or watched._conversations, 5)
    assert wait_until(watched.look, 2 * DEADLINE_S) is None
    os.kill(pid, signal.SIGSTOP)
    trouble = wait_until(watched.look, LONG_S)
    os.kill(pid, signal.SIGCONT)
    assert trouble.startswith(f"TransferQueue controller TransferQueueController (pid {pid} on ")
    assert "hangs: no answer for" in trouble and "guards.hang_deadline_s" in trouble


def test_work_is_no_hang(watched, start):
    """A blocked event loop, and more calls than an actor takes at a time."""
    blocked, loaded = start("agent_loop_worker_0_ab"), start("reward_loop_worker_0")
    assert wait_until(watched.look, DEADLINE_S) is None
    blocked.block.remote(4 * DEADLINE_S)
    calls = [loaded.slow.remote(4 * DEADLINE_S) for _ in range(1500)]
    assert wait_until(watched.look, 3 * DEADLINE_S) is None
    assert watched.silent() == []
    ray.get(calls)


def test_an_engine_may_take_its_time_to_load_and_then_must_answer(watched, start, monkeypatch):
    server = start("vllm_server_0_0", Server)
    assert wait_until(watched.look, 2 * DEADLINE_S) is None
    ray.get(server.load.remote())
    assert wait_until(watched.look, 2 * DEADLINE_S) is None
    ray.get(server.become.remote("hung"))
    assert "vLLM engine vllm_server_0_0 (pid" in (trouble := wait_until(watched.look, LONG_S)) and "hangs" in trouble
    monkeypatch.setattr(watchdog, "SILENT_S", DEADLINE_S)
    assert ["vLLM engine vllm_server_0_0 (pid" in silent for silent in watched.silent()] == [True]


def test_a_dead_engine_is_told_by_its_server(watched, start):
    server = start("vllm_server_0_1", Server)
    ray.get(server.load.remote())
    ray.get(server.become.remote("dead"))
    trouble = wait_until(watched.look, LONG_S)
    assert trouble.startswith("vLLM engine vllm_server_0_1 (pid ") and trouble.endswith(" died: EngineDeadError")


def test_a_job_that_was_stopped_as_a_whole_is_forgiven(watched, start, monkeypatch):
    pid = pid_of(start("reward_loop_worker_0"))
    assert wait_until(watched.look, DEADLINE_S) is None
    os.kill(pid, signal.SIGSTOP)
    time.sleep(2 * DEADLINE_S)
    monkeypatch.setattr(watchdog, "PAUSE_S", DEADLINE_S)
    trouble = watched.look()
    os.kill(pid, signal.SIGCONT)
    assert trouble is None


def test_each_part_is_known_by_its_name():
    names = ["vllm_server_0_0", "TransferQueueController", "TransferQueueStorageUnit#0", "reward_loop_worker_0"]
    names += ["agent_loop_worker_1_0123abcd", "global_poolWorkerDict_0:0", "TaskRunnerV1"]
    assert [title_of(name) for name in names] == list(TITLES)
    assert title_of("tool_server") is None


def test_the_place_of_the_training_loop_is_empty_outside_verl():
    assert training_place() == ()


HANGING_LOOP = """
import threading, time
import verl.trainer.ppo.utils as module
code = compile("def update_actor(): time.sleep(60)", "trainer.py", "exec")
exec(code, {**vars(module), "time": time}, namespace := {})
from reinforcepp_verl.guards.watch import Watch
watched = Watch(60.0, 0.5)
found = []
def look():
    deadline = time.monotonic() + 20
    while not found and time.monotonic() < deadline:
        time.sleep(0.1)
        found.append(watched._stuck())
        found[:] = [trouble for trouble in found if trouble]
    print(found[0], flush=True)
    import os; os._exit(0)
threading.Thread(target=look).start()
namespace["update_actor"]()
"""


def test_a_training_loop_that_does_not_move_is_told_with_its_place():
    result = subprocess.run([sys.executable, "-c", HANGING_LOOP], capture_output=True, text=True, timeout=120)
    assert "the training loop hangs: 0 s in update_actor (utils.py:1) (guards.step_deadline_s)" in result.stdout


# The last test: what died stays dead, and is trouble for every later look.
def test_killed_parts_are_named(watched, start):
    names = ["reward_loop_worker_3", "agent_loop_worker_0_ab", "x_WorkerDict_0:1"]
    pids = {name: pid_of(start(name)) for name in names}
    assert watched.look() is None
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    dead = wait_until(lambda: len(found := [part for part in find_parts() if part.death]) == len(names) and found, 10)
    assert {part.name: part.pid for part in dead} == pids
    assert re.fullmatch(r"\S+ .*worker \S+ \(pid \d+ on [\d.]+\) died: its process is gone: killed.*", watched.look())
