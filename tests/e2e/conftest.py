"""The arithmetic task, prepared once, and the `reinforcepp` command as a user runs it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from filelock import FileLock

from reinforcepp_verl.runs import processes

COMMAND = Path(sys.executable).with_name("reinforcepp")
RECIPE = "+recipe=math_rlvr/arithmetic"
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Return a folder with data/arithmetic in it, as `reinforcepp prepare arithmetic` creates it.

    pytest-xdist's workers prepare it once and link to it; each has its own runs.
    """
    root = tmp_path_factory.getbasetemp()
    shared = (root if worker_id == "master" else root.parent) / "prepared"
    with FileLock(f"{shared}.lock"):
        if not shared.is_dir():
            shared.mkdir()
            subprocess.run([COMMAND, "prepare", "arithmetic"], cwd=shared, check=True, timeout=600)
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "data").mkdir()
    (folder / "data" / "arithmetic").symlink_to(shared / "data" / "arithmetic")
    return folder


class Command(subprocess.Popen):
    """A command that a test has started."""

    def output(self, exit_code: int = 0) -> str:
        """Wait for the end, which must have this exit code, and return what was printed."""
        try:
            output, _ = self.communicate(timeout=900)
        except subprocess.TimeoutExpired as error:
            pytest.fail(f"no end after {error.timeout} s: {(error.output or b'').decode()}")
        assert self.returncode == exit_code, output
        return output


@pytest.fixture
def start(workplace: Path) -> Iterator[Callable[..., Command]]:
    """Return a function that starts a command in the workplace; its remaining processes are ended after the test."""
    started: list[Command] = []

    def start_command(*command: str | Path, **environment: str) -> Command:
        process = Command(
            [str(part) for part in command],
            cwd=workplace,
            env={**os.environ, processes.RUN_VARIABLE: f"test-{os.getpid()}", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start_command
    for process in started:
        if process.poll() is None:
            process.kill()
    if (latest := workplace / "runs" / "latest").exists():
        processes.terminate_all(str(latest.resolve()))
    processes.terminate_all(f"test-{os.getpid()}")


@pytest.fixture
def train(start: Callable[..., Command], workplace: Path) -> Callable[..., tuple[Path, str]]:
    """Return a function that runs `reinforcepp train` to its successful end: (run folder, console output)."""

    def train_to_the_end(*overrides: str) -> tuple[Path, str]:
        process = start(COMMAND, "train", RECIPE, *overrides)
        output = process.output()
        return (workplace / "runs" / "latest").resolve(), output

    return train_to_the_end


@pytest.fixture(scope="session")
def kill_loop() -> ModuleType:
    """Return benchmarks/kill_loop.py, which kills a run and compares metrics."""
    spec = importlib.util.spec_from_file_location("kill_loop", BENCHMARKS / "kill_loop.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
