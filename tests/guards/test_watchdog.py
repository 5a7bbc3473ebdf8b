"""The watchdog on real Ray actors with verl's names: dead, asked to exit, hung, only busy."""

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

from reinforcepp_verl import checkpoints
from reinforcepp_verl.common.slow_ray_start import retry_slow_ray_start
from reinforcepp_verl.guards import watchdog
from reinforcepp_verl.guards.actors import find_actors
from reinforcepp_verl.guards.process_names import ROLES, role_of
from reinforcepp_verl.guards.watchdog import Watchdog, training_loop_position

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
    """As in verl: `engine` reaches the engine process, which does not exist while the model loads."""

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
    retry_slow_ray_start(ray.init, num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def dog():
    return Watchdog(DEADLINE_S, None, ())


@pytest.fixture
def start():
    """Return a function that starts an actor with one of verl's names; all are ended after the test."""
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


def test_an_actor_that_was_asked_to_exit_is_not_a_problem(dog, start):
    handle = start("reward_loop_worker_1")
    assert dog.check() is None
    ray.kill(handle)
    time.sleep(1)
    assert dog.check() is None


def test_a_stopped_data_plane_is_distinguished_from_a_responsive_one(dog, start):
    pid = pid_of(start("TransferQueueController", namespace="transfer_queue"))
    wait_until(lambda: dog.check() or dog._health_checks, 5)
    assert wait_until(dog.check, 2 * DEADLINE_S) is None
    os.kill(pid, signal.SIGSTOP)
    problem = wait_until(dog.check, LONG_S)
    os.kill(pid, signal.SIGCONT)
    assert problem.startswith(f"TransferQueue controller TransferQueueController (pid {pid} on ")
    assert "hangs: no answer for" in problem and "guards.hang_deadline_s" in problem


@pytest.mark.long
def test_work_is_not_a_hang(dog, start):
    """A blocked event loop, and more calls than an actor handles concurrently."""
    blocked, loaded = start("agent_loop_worker_0_ab"), start("reward_loop_worker_0")
    assert wait_until(dog.check, DEADLINE_S) is None
    blocked.block.remote(4 * DEADLINE_S)
    calls = [loaded.slow.remote(4 * DEADLINE_S) for _ in range(1500)]
    assert wait_until(dog.check, 3 * DEADLINE_S) is None
    assert dog.unresponsive() == []
    ray.get(calls)


def test_an_engine_may_take_its_time_to_load_and_then_must_answer(dog, start, monkeypatch):
    server = start("vllm_server_0_0", Server)
    assert wait_until(dog.check, 2 * DEADLINE_S) is None
    ray.get(server.load.remote())
    assert wait_until(dog.check, 2 * DEADLINE_S) is None
    ray.get(server.become.remote("hung"))
    assert "vLLM engine vllm_server_0_0 (pid" in (problem := wait_until(dog.check, LONG_S)) and "hangs" in problem
    monkeypatch.setattr(watchdog, "UNRESPONSIVE_S", DEADLINE_S)
    assert ["vLLM engine vllm_server_0_0 (pid" in described for described in dog.unresponsive()] == [True]


def test_a_dead_engine_is_reported_by_its_server(dog, start):
    server = start("vllm_server_0_1", Server)
    ray.get(server.load.remote())
    ray.get(server.become.remote("dead"))
    problem = wait_until(dog.check, LONG_S)
    assert problem.startswith("vLLM engine vllm_server_0_1 (pid ") and problem.endswith(" died: EngineDeadError")


def test_a_job_that_was_suspended_as_a_whole_does_not_hang(dog, start, monkeypatch):
    pid = pid_of(start("reward_loop_worker_0"))
    assert wait_until(dog.check, DEADLINE_S) is None
    os.kill(pid, signal.SIGSTOP)
    time.sleep(2 * DEADLINE_S)
    monkeypatch.setattr(watchdog, "SUSPENDED_S", DEADLINE_S)
    problem = dog.check()
    os.kill(pid, signal.SIGCONT)
    assert problem is None


def test_each_actor_has_its_role():
    names = ["vllm_server_0_0", "TransferQueueController", "TransferQueueStorageUnit#0", "reward_loop_worker_0"]
    names += ["agent_loop_worker_1_0123abcd", "global_poolWorkerDict_0:0", "TaskRunnerV1"]
    assert [role_of(name) for name in names] == list(ROLES)
    assert role_of("tool_server") is None


HANGING_LOOP = """
import contextlib, os, threading, time
from verl.trainer import ppo
import verl.trainer.ppo.utils as module
from reinforcepp_verl.guards.watchdog import Watchdog
code = compile("def update_actor(): time.sleep(60)", "trainer.py", "exec")
exec(code, {{**vars(module), "time": time}}, namespace := {{}})
dog = Watchdog(60.0, 0.5, (ppo,))
def check():
    found = None
    deadline = time.monotonic() + {seconds}
    while found is None and time.monotonic() < deadline:
        time.sleep(0.1)
        found = dog._check_training_loop()
    print(found, flush=True)
    os._exit(0)
threading.Thread(target=check).start()
with {context}:
    namespace["update_actor"]()
"""


def hanging_loop(seconds, context):
    code = HANGING_LOOP.format(seconds=seconds, context=context)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300).stdout


def test_a_hanging_training_loop_is_reported_with_its_position():
    output = hanging_loop(20, "contextlib.nullcontext()")
    assert "the training loop hangs: 0 s in update_actor (utils.py:1) (guards.step_deadline_s)" in output


@pytest.mark.long
def test_waiting_for_rollouts_is_not_a_hang():
    assert hanging_loop(3, "dog.waiting_for_rollouts()").strip().endswith("None")


def test_outside_of_the_training_loop_there_is_no_position():
    assert training_loop_position((checkpoints,)) == ()
    assert training_loop_position((sys.modules[__name__],))[0].startswith("test_outside_of_the_training_loop")


# The last test: dead actors stay dead and are reported by every later check.
def test_killed_actors_are_named(dog, start):
    names = ["reward_loop_worker_3", "agent_loop_worker_0_ab", "x_WorkerDict_0:1"]
    pids = {name: pid_of(start(name)) for name in names}
    assert dog.check() is None
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    dead = wait_until(
        lambda: len(found := [actor for actor in find_actors() if actor.death]) == len(names) and found, 10
    )
    assert {actor.name: actor.pid for actor in dead} == pids
    assert re.fullmatch(r"\S+ .*worker \S+ \(pid \d+ on [\d.]+\) died: its process is gone: killed.*", dog.check())
