"""A fork of the server does what Python would do: arguments, environment, files, signals, exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reinforcepp_verl.integration.cpu import fork_server
from reinforcepp_verl.integration.cpu.environment import CPU_ENVIRONMENT

pytestmark = pytest.mark.timeout(300)

IMPORTED = "import os, sys; print('colorsys' in sys.modules, os.getpid())"


@pytest.fixture(scope="module")
def python(small_server) -> Iterator[Path]:
    """The program that stands in for Python, with a server behind it."""
    with fork_server.started(os.environ, [sys.executable, "-c", small_server]) as stand_in:
        yield Path(stand_in)


def test_forks_have_what_the_server_imported(python):
    outputs = [subprocess.run([python, "-c", IMPORTED], capture_output=True, text=True).stdout for _ in range(2)]
    assert [output.split()[0] for output in outputs] == ["True"] * 2
    assert len({output.split()[1] for output in outputs}) == 2


def test_a_script_gets_arguments_environment_and_directory(python, tmp_path):
    script = tmp_path / "script.py"
    (tmp_path / "beside.py").write_text("NAME = 'beside'\n")
    script.write_text(
        "import os, sys, beside\n"
        "print(__name__, beside.NAME, sys.argv, os.environ['MINE'], 'HOME' in os.environ, os.getcwd(), os.getpgrp())\n"
        "print('wrong', file=sys.stderr)\n"
        "sys.exit(7)\n"
    )
    done = subprocess.run(
        [python, "-B", "-X", "utf8", script, "--one", "two words"],
        **{"env": {"MINE": "1"}, "cwd": tmp_path, "capture_output": True, "text": True},
    )
    expected = f"__main__ beside ['{script}', '--one', 'two words'] 1 False {tmp_path} {os.getpgrp()}\n"
    assert (done.stdout, done.stderr, done.returncode) == (expected, "wrong\n", 7)


def test_a_fork_can_change_its_title(python):
    """vLLM names its engine, which logs, `ps` and benchmarks/faults.py find by this name."""
    code = (
        "import setproctitle; setproctitle.setproctitle('VLLM::EngineCore'); print(open('/proc/self/cmdline').read())"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, env={"MINE": "1"})
    assert done.stdout.startswith("VLLM::EngineCore"), done.stderr


def test_the_kernel_shows_the_environment_of_the_request(python):
    """By which the processes of a run are found."""
    code = "import os; print(open('/proc/self/environ').read().replace(chr(0), ' '), os.environ['MINE'])"
    done = subprocess.run([python, "-c", code], env={"MINE": "1", "LONG": "x" * 5000}, capture_output=True, text=True)
    shown = done.stdout.split()
    assert "MINE=1" in shown and f"LONG={'x' * 5000}" in shown and shown[-1] == "1", done.stderr
    assert not any(entry.startswith("HOME=") for entry in shown)


def test_temporary_files_are_where_the_request_says(python, tmp_path):
    code = "import tempfile; print(tempfile.gettempdir())"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    assert (
        subprocess.run([python, "-c", code], env=environment, capture_output=True, text=True).stdout == f"{tmp_path}\n"
    )


def test_an_exception_is_printed_and_ends_the_process(python):
    done = subprocess.run([python, "-c", "raise ValueError('why')"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.endswith("ValueError: why\n")


def test_standard_input_and_other_files_are_open(python):
    reading, writing = os.pipe()
    code = f"import os, sys; os.write({writing}, sys.stdin.buffer.read())"
    subprocess.run([python, "-c", code], input=b"through", pass_fds=[writing], check=True)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b"through"


WAITING = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"


def start_waiting(python: Path) -> tuple[subprocess.Popen, int]:
    process = subprocess.Popen([python, "-c", WAITING], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_fork_ends_with_its_stand_in(python, number):
    process, pid = start_waiting(python)
    process.send_signal(number)
    assert process.wait() == -number
    wait_until(lambda: not Path(f"/proc/{pid}").exists())


def test_a_stand_in_ends_with_its_fork(python):
    process, pid = start_waiting(python)
    os.kill(pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_a_signal_that_is_handled_reaches_the_fork(python):
    code = (
        "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5)); print(flush=True); signal.pause()"
    )
    process = subprocess.Popen([python, "-c", code], stdout=subprocess.PIPE)
    process.stdout.readline()
    process.terminate()
    assert process.wait() == 5


def test_forks_draw_other_random_numbers(python):
    code = "import random; import numpy as np; print(random.random(), np.random.random())"
    outputs = {subprocess.run([python, "-c", code], capture_output=True, text=True).stdout for _ in range(2)}
    assert len(outputs) == 2


SPAWN = """
import multiprocessing, os, sys

def send(connection):
    connection.send((os.getpid(), "colorsys" in sys.modules))

if __name__ == "__main__":
    multiprocessing.set_executable(sys.argv[1])
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=send, args=(theirs,))
    child.start()
    pid, imported = ours.recv()
    child.join()
    print(pid != os.getpid(), imported, child.exitcode)
"""


def test_multiprocessing_spawns_by_it(python, tmp_path):
    script = tmp_path / "spawn.py"
    script.write_text(SPAWN)
    done = subprocess.run([sys.executable, script, python], capture_output=True, text=True)
    assert done.stdout == "True True 0\n", done.stderr


def test_without_a_server_it_is_python(tmp_path):
    broken = [sys.executable, "-c", "raise ImportError('a broken package')"]
    with fork_server.started(os.environ, broken) as stand_in:
        done = subprocess.run([stand_in, "-c", "import sys; sys.exit(len(sys.argv))", "one"], timeout=60)
    assert done.returncode == 2


def test_a_module_and_the_search_path_of_the_request(python, tmp_path):
    (tmp_path / "mine.py").write_text("import sys; print(__name__, sys.argv[1:])\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([python, "-m", "mine", "one"], env=environment, cwd="/", capture_output=True, text=True)
    assert done.stdout == "__main__ ['one']\n", done.stderr


def test_file_limits_are_those_of_the_request(python):
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    outputs = [
        subprocess.run(["sh", "-c", f"ulimit -Sn {limit}; exec {python} -c '{code}'"], capture_output=True, text=True)
        for limit in (64, 1000)
    ]
    assert [output.stdout for output in outputs] == ["64\n", "1000\n"]


def test_priority_file_mask_and_blocked_signals_are_those_of_the_request(python):
    code = (
        "import os, signal; mask = os.umask(0); "
        "print(os.getpriority(os.PRIO_PROCESS, 0), oct(mask), signal.SIGUSR2 in signal.pthread_sigmask(0, ()))"
    )

    def prepare() -> None:
        os.nice(3)
        os.umask(0o027)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])

    done = subprocess.run([python, "-c", code], preexec_fn=prepare, capture_output=True, text=True)
    assert done.stdout == f"{min(os.getpriority(os.PRIO_PROCESS, 0) + 3, 19)} 0o27 True\n", done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_closed_standard_stream_does_not_change_the_exit_code(python, closed):
    done = subprocess.run(["sh", "-c", f"exec {python} -c 'import sys; sys.exit(7)' {closed}"], capture_output=True)
    assert done.returncode == 7


def test_a_signal_during_the_start_does_not_reach_the_server(python):
    """The fork has the server's handlers for a moment; that of SIGTERM removes the server's folder."""
    for delay_ms in range(0, 100, 2):
        process = subprocess.Popen([python, "-c", "import time; time.sleep(60)"])
        time.sleep(delay_ms / 1000)
        process.terminate()
        assert process.wait() == -signal.SIGTERM
    assert python.exists()


KILLED = """
import os, signal, subprocess, sys
from reinforcepp_verl.integration.cpu import fork_server
with fork_server.started(os.environ, [sys.executable, "-c", sys.argv[1]]) as stand_in:
    subprocess.run([stand_in, "-c", ""], check=True)
    print(stand_in, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_is_left_when_the_process_that_started_the_server_is_killed(small_server):
    done = subprocess.run([sys.executable, "-c", KILLED, small_server], capture_output=True, text=True)
    wait_until(lambda: not Path(done.stdout.strip()).parent.exists())


RAY_IDS = """
import sys, threading
assert "torch" in sys.modules, "not a fork"
import ray
thread = threading.Thread(target=lambda: print(ray.NodeID.from_random().hex()))
thread.start()
thread.join()
print(ray.NodeID.from_random().hex())
"""


@pytest.mark.long
def test_forks_of_the_real_server_draw_other_ray_ids():
    with fork_server.started({**os.environ, **CPU_ENVIRONMENT}) as stand_in:
        outputs = [subprocess.run([stand_in, "-c", RAY_IDS], capture_output=True, text=True).stdout for _ in range(2)]
    ids = [line for output in outputs for line in output.split()]
    assert len(ids) == len(set(ids)) == 4
