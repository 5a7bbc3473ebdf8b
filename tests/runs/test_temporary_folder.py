"""What a run leaves outside its folder is removed, and nothing else is."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.runs import launch, temporary_folder


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    return RunFolder(tmp_path / "run")


def test_the_folder_is_this_users_and_removed_with_everything_in_it(run):
    attempt = run.new_attempt()
    folder = temporary_folder.create(attempt, {})
    assert folder.parent == Path(tempfile.gettempdir()).resolve() and stat.S_IMODE(folder.stat().st_mode) == 0o700
    (folder / "ray/session_2026/logs").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
    temporary_folder.remove(run)
    assert not folder.exists() and not attempt.temporary.exists() and not attempt.ray_logs.exists()
    temporary_folder.remove(run)


def test_a_long_folder_has_a_short_link(run, tmp_path):
    long = tmp_path / ("a" * 80)
    long.mkdir()
    folder = temporary_folder.create(run.new_attempt(), {"TMPDIR": str(long)})
    assert folder.is_symlink() and folder.resolve().parent == long
    path = f"{folder}{temporary_folder.SOCKET_OF_RAY}"
    assert len(path) <= temporary_folder.LONGEST_SOCKET
    Path(path).parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
    temporary_folder.remove(run)
    assert not os.path.lexists(folder) and list(long.iterdir()) == []


def test_rays_logs_are_kept_if_the_attempt_failed(run):
    attempt = run.new_attempt()
    logs = temporary_folder.create(attempt, {}) / "ray/session_2026-01-01/logs"
    logs.mkdir(parents=True)
    for name in ("raylet.out", "gcs_server.err", "worker-1.out", "worker-1.err"):
        (logs / name).write_text(name)
    temporary_folder.remove(run, logs_of=attempt)
    assert {file.name for file in attempt.ray_logs.iterdir()} == {"raylet.out", "gcs_server.err"}


def test_folders_of_killed_attempts_are_removed_too(run):
    folders = [temporary_folder.create(run.new_attempt(), {}) for _ in range(2)]
    temporary_folder.remove(run)
    assert not any(folder.exists() for folder in folders)


@pytest.mark.parametrize("claimed", ["", "\n", "{other}\n{other}\nid\n", "/tmp\n/tmp\n\n", "{link}\n{link}\nid\n"])
def test_only_a_folder_of_this_attempt_is_removed(run, tmp_path, claimed):
    other = temporary_folder.create(RunFolder(tmp_path).new_attempt(), {})
    link = tmp_path / "rpp-link"
    link.symlink_to(other)
    attempt = run.new_attempt()
    attempt.temporary.write_text(claimed.format(other=other, link=link))
    assert temporary_folder.remove(run) == []
    assert (other / temporary_folder.ID_FILE).is_file()
    temporary_folder.remove(RunFolder(tmp_path))
    assert not other.exists()


def test_the_folder_of_a_run_that_was_moved_is_removed(run, tmp_path):
    folder = temporary_folder.create(run.new_attempt(), {})
    run.path.rename(tmp_path / "moved")
    temporary_folder.remove(RunFolder(tmp_path / "moved"))
    assert not folder.exists()


def test_what_cannot_be_removed_or_copied_is_reported_and_changes_nothing_else(run, monkeypatch):
    attempt = run.new_attempt()
    folder = temporary_folder.create(attempt, {})
    (folder / "ray/session_2026/logs").mkdir(parents=True)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copytree", _fail)
        patched.setattr(shutil, "rmtree", _fail)
        assert temporary_folder.remove(run, logs_of=attempt) == [
            f"{attempt.ray_logs}: [Errno 28] no space",
            f"{folder}: not removed ([Errno 28] no space)",
        ]
    assert temporary_folder.remove(run) == [] and not folder.exists()


def _fail(*_, **__):
    raise OSError(28, "no space")


@pytest.mark.parametrize("given", [{"TMPDIR": "/nowhere"}, {"TMPDIR": ""}, {"RAY_TMPDIR": "/nowhere"}])
def test_a_folder_that_cannot_be_written_is_replaced(run, given):
    folder = temporary_folder.create(run.new_attempt(), given)
    assert folder.parent == Path("/tmp")
    temporary_folder.remove(run)


def test_a_path_that_ray_would_have_to_quote_has_a_link(run, tmp_path):
    (tmp_path / "a b").mkdir()
    folder = temporary_folder.create(run.new_attempt(), {"TMPDIR": str(tmp_path / "a b")})
    assert " " not in str(folder) and folder.resolve().parent == tmp_path / "a b"
    temporary_folder.remove(run)


LEAVES_A_SEMAPHORE = """
import multiprocessing, os, signal
from reinforcepp_verl.integration import verl_patches

def end():
    lock = multiprocessing.get_context("spawn").Lock()
    print(lock._semlock.name)

if __name__ == "__main__":
    verl_patches.install()
    child = multiprocessing.get_context("spawn").Process(target=end)
    child.start()
    child.join()
    lock = multiprocessing.get_context("spawn").Lock()
    print(lock._semlock.name, flush=True)
    os.kill(multiprocessing.resource_tracker._resource_tracker._pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_semaphores_that_killed_processes_leave_are_removed(run, tmp_path):
    folder = temporary_folder.create(run.new_attempt(), {})
    (tmp_path / "script.py").write_text(LEAVES_A_SEMAPHORE)
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"],
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    names = done.stdout.split()
    assert len(names) == 2 and all(name.startswith(f"/{folder.name}-") for name in names)
    left = temporary_folder.SHARED_MEMORY / f"sem.{names[1][1:]}"
    assert left.exists()
    temporary_folder.remove(run)
    assert not left.exists()


def test_buffers_of_weight_transfers_are_removed_and_only_those_of_the_run(run, tmp_path):
    folder = temporary_folder.create(run.new_attempt(), {})
    (tmp_path / "other").mkdir()
    other = temporary_folder.create(RunFolder(tmp_path / "other").new_attempt(), {})
    left = [temporary_folder.SHARED_MEMORY / f"{owner.name}-verl_weights_1" for owner in (folder, other)]
    for file in left:
        file.touch()
    temporary_folder.remove(run)
    assert [file.exists() for file in left] == [False, True]
    temporary_folder.remove(RunFolder(tmp_path / "other"))
    assert not left[1].exists()


SENDS_WEIGHTS = """
import asyncio, tempfile, torch
import reinforcepp_verl.plugin
from reinforcepp_verl.integration import verl_patches
verl_patches.install()
from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightSender
sender = BucketedWeightSender("ipc:///tmp/weights.sock", bucket_size_mb=1, use_shm=True)
print("ready", flush=True)
asyncio.run(sender.async_send_weights([("weight", torch.ones(4))]))
"""


@pytest.mark.long
def test_a_sender_of_weights_that_is_killed_leaves_nothing(run):
    """verl's own, which waits for an engine; its resource tracker is killed too."""
    folder = temporary_folder.create(run.new_attempt(), {})
    environment = {**os.environ, "TMPDIR": str(folder), "VERL_PLATFORM": "cpu"}
    with subprocess.Popen([sys.executable, "-c", SENDS_WEIGHTS], env=environment, stdout=subprocess.PIPE) as sender:
        deadline = time.monotonic() + 400
        while not (left := list(temporary_folder.SHARED_MEMORY.glob(f"{folder.name}-verl_weights_*"))):
            assert sender.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        for process in [*psutil.Process(sender.pid).children(recursive=True), sender]:
            process.kill()
    assert all(file.exists() for file in left) and list(folder.glob("weights-*.sock"))
    temporary_folder.remove(run)
    assert not any(file.exists() for file in left) and not folder.exists()


EVALUATES = """
import pathlib, sys, time
from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.runs import launch, temporary_folder
evaluation = RunFolder(pathlib.Path(sys.argv[1]))
with launch.run_lock(evaluation):
    print(temporary_folder.create(evaluation.new_attempt(), {}), flush=True)
    time.sleep(300)
"""


def test_what_a_killed_evaluation_leaves_is_removed_and_a_running_one_is_left_alone(run):
    folders, evaluations = [], []
    for name in ("killed", "running"):
        (run.evaluations / name).mkdir(parents=True)
        command = [sys.executable, "-c", EVALUATES, run.evaluations / name]
        evaluations.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        folders.append(Path(evaluations[-1].stdout.readline().strip()))
    try:
        evaluations[0].kill()
        evaluations[0].wait()
        assert launch.clear_evaluations(run) == []
        assert [folder.exists() for folder in folders] == [False, True]
    finally:
        evaluations[1].kill()
        evaluations[1].wait()
    assert launch.clear_evaluations(run) == [] and not folders[1].exists()
