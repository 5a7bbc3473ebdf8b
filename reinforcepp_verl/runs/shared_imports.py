"""Torch, transformers and vLLM imported once for all runs of a command, instead of by two processes of each run.

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
def started(log: Path) -> Iterator[None]:
    """Start the server, with its output in `log`, for this process and those that it starts."""
    environment = run_environment.of_toy_runs()
    # In a session of its own, Ctrl-C does not reach it, nor its forks.
    with (
        log.open("wb") as output,
        fork_server.started(environment, stdout=output, stderr=output, start_new_session=True) as program,
    ):
        # Where the kernel does not say what it shows as their environment, forks would not have the mark of their run.
        if program is None or not any(forked_process.environment_area()):
            yield
            return
        Path(program).with_name(ENVIRONMENT).write_text(json.dumps(environment))
        os.environ[VARIABLE] = program
        try:
            yield
        finally:
            del os.environ[VARIABLE]


def python() -> list[str]:
    """Return the beginning of the command of a Python process that ends with this one, a fork if there is a server."""
    program = _program()
    command = [program] if program else [sys.executable, "-I", "-S", forked_python.__file__, NO_SERVER]
    return [*command, forked_python.END_WITH, str(os.getpid())]


def python_for(environment: Mapping[str, str]) -> list[str]:
    """Return the beginning of the command of a Python process with this environment.

    A fork if there is a server whose imports have read the same variables, Python otherwise.
    """
    program = _program()
    if not program:
        return [sys.executable]
    server = json.loads(Path(program).with_name(ENVIRONMENT).read_text())
    differing = {name for name in server.keys() | environment.keys() if server.get(name) != environment.get(name)}
    if differing := differing - run_environment.names_of_one_run() - {VARIABLE}:
        print(f"modules are imported again, because of other values of {', '.join(sorted(differing))}", flush=True)
        return [sys.executable]
    return python()


def _program() -> str | None:
    program = os.environ.get(VARIABLE, "")
    # A server that was terminated has removed it.
    return program if os.access(program, os.X_OK) else None
