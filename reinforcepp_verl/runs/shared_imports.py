"""Torch, transformers and vLLM imported once for all runs of a command, which otherwise takes each run two processes.

A fork server (integration/cpu/fork_server.py) for several runs. Each run still has a server of its own, for the
processes that Ray and vLLM start; it and the run's training process are forks of this one.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from reinforcepp_verl.integration.cpu import fork_server, forked_process, forked_python
from reinforcepp_verl.runs import run_environment

VARIABLE = "REINFORCEPP_SHARED_IMPORTS"
"""Environment variable with the program to run instead of Python."""
ENVIRONMENT = "environment.json"
NO_SERVER = "-"


@contextmanager
def started(log: Path) -> Iterator[list[str]]:
    """Start the server, with its output in `log`; yield the beginning of the command of a Python process.

    The process ends with this one, and is started as usual if the server cannot work.
    """
    environment = run_environment.of_toy_runs()
    with log.open("wb") as output, fork_server.started(environment, log=output) as program:
        # Where the kernel does not say what it shows as their environment, forks would not have the mark of their run.
        if program is None or not any(forked_process.environment_area()):
            yield not_shared()
            return
        Path(program).with_name(ENVIRONMENT).write_text(json.dumps(environment))
        os.environ[VARIABLE] = program
        try:
            yield [program, forked_python.END_WITH, str(os.getpid())]
        finally:
            del os.environ[VARIABLE]


def not_shared() -> list[str]:
    """Return the beginning of the same command without a server."""
    stand_in = [sys.executable, "-I", "-S", forked_python.__file__, NO_SERVER]
    return [*stand_in, forked_python.END_WITH, str(os.getpid())]


def python_for(environment: Mapping[str, str]) -> list[str]:
    """Return the beginning of the command of a Python process with this environment.

    A fork of the shared server, if there is one and its imports have read the same variables.
    """
    program = os.environ.get(VARIABLE)
    if not program:
        return [sys.executable]
    server = json.loads(Path(program).with_name(ENVIRONMENT).read_text())
    differing = {name for name in server.keys() | environment.keys() if server.get(name) != environment.get(name)}
    if differing := differing - run_environment.names_of_one_run() - {VARIABLE}:
        print(f"modules are imported again, because of other values of {', '.join(sorted(differing))}", flush=True)
        return [sys.executable]
    return [program, forked_python.END_WITH, str(os.getpid())]
