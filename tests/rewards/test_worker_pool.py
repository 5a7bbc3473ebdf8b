"""A task that hangs, crashes or exhausts memory costs at most its time limit and its worker, never the pool."""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from reinforcepp_verl.rewards.worker_pool import Outcome, WorkerPool, shared_pool


@pytest.fixture
def pool():
    pool = WorkerPool(workers=2, memory_limit_mb=512)
    yield pool
    pool.close()


def test_returns_values(pool):
    assert pool.run(abs, -3, time_limit_s=5) == Outcome(3, "")


def test_a_hung_task_costs_its_limit_and_the_next_one_works(pool):
    pool.run(abs, -3, time_limit_s=5)
    start = time.perf_counter()
    assert pool.run(time.sleep, 10**6, time_limit_s=0.1) == Outcome(None, "timeout")
    assert time.perf_counter() - start < 10
    assert pool.run(abs, -3, time_limit_s=5) == Outcome(3, "")


def test_a_task_that_ignores_interruption_is_killed_too(pool):
    # One operation in C that never checks for signals.
    assert pool.run(pow, 3, 10**9, time_limit_s=0.5) == Outcome(None, "timeout")
    assert pool.run(abs, -3, time_limit_s=5) == Outcome(3, "")


def test_waiting_does_not_count(pool):
    assert pool.run(time.sleep, 1, time_limit_s=0.5) == Outcome(None, "")


def test_a_crash_costs_its_own_task(pool):
    with ThreadPoolExecutor(8) as threads:
        crash = threads.submit(pool.run, os._exit, 3, time_limit_s=5)
        others = [threads.submit(pool.run, abs, -number, time_limit_s=5) for number in range(50)]
        assert crash.result() == Outcome(None, "crashed")
        assert [other.result() for other in others] == [Outcome(number, "") for number in range(50)]


def test_ten_gigabytes_are_refused(pool):
    assert pool.run(bytes, 10 * 2**30, time_limit_s=5) == Outcome(None, "memory")
    assert pool.run(abs, -3, time_limit_s=5) == Outcome(3, "")


def test_an_exception_is_reported(pool):
    outcome = pool.run(int, "x", time_limit_s=5)
    assert outcome.value is None
    assert outcome.failure.startswith("error: ValueError: invalid literal")


def test_a_task_that_cannot_be_sent_is_reported(pool):
    assert pool.run(lambda: 1, time_limit_s=5).failure.startswith("error: ")
    assert pool.run(abs, -3, time_limit_s=5) == Outcome(3, "")


def test_more_hung_tasks_than_workers_do_not_block_the_pool(pool):
    start = time.perf_counter()
    with ThreadPoolExecutor(5) as threads:
        hung = [threads.submit(pool.run, time.sleep, 10**6, time_limit_s=0.05) for _ in range(4)]
        time.sleep(0.1)
        last = threads.submit(pool.run, abs, -3, time_limit_s=5)
        assert last.result() == Outcome(3, "")
        assert [task.result() for task in hung] == [Outcome(None, "timeout")] * 4
    assert time.perf_counter() - start < 10


def test_a_pool_whose_idle_workers_died_is_started_again(pool):
    workers = {pool.run(os.getpid, time_limit_s=5).value for _ in range(20)}
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    assert pool.run(abs, -3, time_limit_s=5) == Outcome(3, "")


def test_starts_again_after_it_was_closed(pool):
    first = pool.run(os.getpid, time_limit_s=5).value
    pool.close()
    second = pool.run(os.getpid, time_limit_s=5).value
    assert first != second
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_works_from_the_threads_of_an_event_loop(pool):
    async def score_all():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(
            *(loop.run_in_executor(None, lambda n=n: pool.run(abs, -n, time_limit_s=5)) for n in range(30))
        )

    assert asyncio.run(score_all()) == [Outcome(number, "") for number in range(30)]


def test_one_shared_pool_for_all_threads_of_one_size():
    found = []
    threads = [threading.Thread(target=lambda: found.append(shared_pool(1, 256))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    assert shared_pool(2, 256) is not found[0]


def _score_in_this_process(number):
    return WorkerPool(1, 512).run(abs, number, time_limit_s=5)


def _score_in_a_fork(number):
    """Score in a forked child of this process, which has scored itself."""
    shared_pool(1, 512).run(abs, number, time_limit_s=5)
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writing, str(shared_pool(1, 512).run(abs, number, time_limit_s=5).value).encode())
        os._exit(0)
    os.waitpid(child, 0)
    return os.read(reading, 10)


def test_a_process_that_has_scored_may_fork():
    assert _score_in_a_fork(-3) == b"3"


def test_works_in_a_daemonic_pool():
    with multiprocessing.get_context("fork").Pool(2) as daemonic:
        assert daemonic.map(_score_in_this_process, [-1, -2, -3]) == [Outcome(n, "") for n in (1, 2, 3)]


SCRIPT = """
import os, sys, threading, time
from reinforcepp_verl.rewards.worker_pool import shared_pool
pool = shared_pool(1, 512)
print("main", flush=True)
print(pool.run(os.getpid, time_limit_s=5).value, flush=True)
"""


def is_alive(process_id):
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until_dead(process_id, seconds=10):
    deadline = time.monotonic() + seconds
    while is_alive(process_id) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_alive(process_id)


def test_a_script_without_a_main_guard_runs_once_and_leaves_no_process(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    first, worker = done.stdout.split()
    assert (done.returncode, first, done.stderr) == (0, "main", "")
    assert wait_until_dead(int(worker))


def test_a_hung_worker_dies_with_a_killed_parent(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT + "pool.run(time.sleep, 10**6, time_limit_s=10**6)\n")
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout.readline() == "main\n"
        worker = int(parent.stdout.readline())
        time.sleep(0.5)
        parent.kill()
    assert wait_until_dead(worker)
