"""One fork server for several runs: which processes are its forks, and when they end."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reinforcepp_verl.integration.cpu import fork_server
from reinforcepp_verl.runs import processes, run_environment, shared_imports

pytestmark = pytest.mark.timeout(300)

IS_FORK = "import sys; print('colorsys' in sys.modules)"


@pytest.fixture
def with_small_server(monkeypatch, small_server):
    """Have the server import only what stands for its imports."""
    small = functools.partial(fork_server.started, server=[sys.executable, "-c", small_server])
    monkeypatch.setattr(fork_server, "started", small)
    # pytest changes a variable before each test.
    names = {*run_environment.names_of_one_run(), "PYTEST_CURRENT_TEST"}
    monkeypatch.setattr(run_environment, "names_of_one_run", lambda: names)


@pytest.fixture
def python(with_small_server, tmp_path):
    with shared_imports.started(tmp_path / "imports.log"):
        yield shared_imports.python()


def output(*command, **options):
    return subprocess.run([*command], capture_output=True, text=True, check=True, **options).stdout.strip()


def of_run(**variables):
    """The environment of a run."""
    given = {**run_environment.of_toy_runs(), processes.RUN_VARIABLE: "/runs/1", "TMPDIR": "/tmp", **variables}
    return {name: value for name, value in given.items() if value is not None}


def test_the_processes_of_runs_are_forks(python):
    assert output(*python, "-c", IS_FORK) == "True"
    assert output(*shared_imports.python_for(of_run()), "-c", IS_FORK, env=of_run()) == "True"


def test_variables_that_a_check_has_set_by_its_imports_do_not_matter(python):
    imports = "import os; before = {*os.environ}; import ray, tensordict; print(*({*os.environ} - before))"
    environment = {name: value for name, value in os.environ.items() if name not in run_environment.SET_BY_IMPORTS}
    set_by_imports = output(sys.executable, "-c", imports, env=environment).split()
    assert "RAY_CLIENT_MODE" in set_by_imports
    assert shared_imports.python_for(of_run(**dict.fromkeys(set_by_imports, "0")))[0] == python[0]


def test_without_a_server_they_are_not(with_small_server, monkeypatch, tmp_path):
    assert shared_imports.python_for(of_run()) == [sys.executable]
    assert output(*shared_imports.python(), "-c", IS_FORK) == "False"
    monkeypatch.setattr(shared_imports.forked_process, "environment_area", lambda: (0, 0))
    with shared_imports.started(tmp_path / "imports.log"):
        assert output(*shared_imports.python(), "-c", IS_FORK) == "False"


OTHER = [{"OMP_NUM_THREADS": "2"}, {"VLLM_LOGGING_LEVEL": None}, {"TORCH_NEW": "1"}]


@pytest.mark.parametrize("variables", OTHER, ids=["another value", "none", "a new one"])
def test_a_run_with_other_variables_imports_for_itself(python, capsys, variables):
    assert shared_imports.python_for(of_run(**variables)) == [sys.executable]
    assert [*variables][0] in capsys.readouterr().out


def test_a_server_of_one_run_is_a_fork_too(python, small_server):
    environment = of_run()
    without_imports = small_server.replace('("colorsys",)', "()")
    server = [*shared_imports.python_for(environment), "-c", without_imports]
    with fork_server.started(environment, server=server) as of_one_run:
        assert of_one_run not in python
        assert output(of_one_run, "-c", IS_FORK, env=environment) == "True"
        # The server, and what stands in for it.
        assert len(processes.find_all("/runs/1")) == 2


def test_a_process_is_found_by_the_mark_of_its_run(python, tmp_path):
    run = str(tmp_path / "run")
    process = subprocess.Popen([*python, "-c", "import time; time.sleep(60)"], env=of_run(REINFORCEPP_RUN=run))
    wait_until(lambda: len(processes.find_all(run)) == 2)
    assert processes.terminate_all(run) == 2
    process.wait()


STARTER = """
import os, subprocess, sys
python = [sys.argv[1], "--end-with", str(os.getpid())]
subprocess.Popen([*python, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"]).wait()
"""


def test_a_process_ends_with_the_one_that_started_it(python):
    starter = subprocess.Popen([sys.executable, "-c", STARTER, python[0]], stdout=subprocess.PIPE, text=True)
    pid = int(starter.stdout.readline())
    starter.kill()
    starter.wait()
    wait_until(lambda: not Path(f"/proc/{pid}").exists())


def test_a_process_ends_with_the_server(with_small_server, tmp_path):
    with shared_imports.started(tmp_path / "imports.log"):
        python = shared_imports.python()
        code = "import os, time; print(os.getpid(), os.getppid(), flush=True); time.sleep(60)"
        process = subprocess.Popen([*python, "-c", code], stdout=subprocess.PIPE, text=True)
        pid, server = map(int, process.stdout.readline().split())
        os.kill(server, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{pid}").exists())
        assert process.wait() == 1
        assert output(*python, "-c", IS_FORK) == "False"


def test_a_server_that_was_terminated_is_missed_by_nobody(with_small_server, tmp_path):
    with shared_imports.started(tmp_path / "imports.log"):
        code = "import os; print(os.getppid())"
        os.kill(int(output(*shared_imports.python(), "-c", code)), signal.SIGTERM)
        wait_until(lambda: not Path(os.environ[shared_imports.VARIABLE]).exists())
        assert output(*shared_imports.python(), "-c", IS_FORK) == "False"
        assert shared_imports.python_for(of_run()) == [sys.executable]


def test_ctrl_c_reaches_neither_the_server_nor_its_forks(python):
    code = "import os; print(*map(os.getsid, (0, os.getppid())), os.getpgid(0), os.getpid())"
    of_fork, of_server, group, pid = output(*python, "-c", code, start_new_session=True).split()
    assert str(os.getsid(0)) not in (of_fork, of_server) and of_fork == group == pid


def wait_until(condition):
    while not condition():
        time.sleep(0.05)
