"""What a run's processes find in their environment, whatever the shell that started it has exported."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.integration import message_authentication
from reinforcepp_verl.runs import run_environment, temporary_folder

RECIPE = "+recipe=math_rlvr/arithmetic"


@pytest.fixture
def environment(compose, tmp_path, monkeypatch):
    """Return a function that returns the environment of a run with these overrides."""
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    for name in ("TMPDIR", "RAY_TMPDIR", "no_proxy", "NO_PROXY", "RAY_AUTH_MODE", "VLLM_RPC_BASE_PATH"):
        monkeypatch.delenv(name, raising=False)
    attempt = RunFolder(tmp_path).new_attempt()

    def of(*overrides: str) -> dict[str, str]:
        with run_environment.of(compose(RECIPE, *overrides), attempt) as variables:
            return dict(variables)

    yield of
    temporary_folder.remove(RunFolder(tmp_path))


@pytest.mark.parametrize("visible", ["", "0", "-1", "NoDevFiles"])
def test_devices_do_not_reach_a_run_on_the_cpu(environment, monkeypatch, visible):
    for name in run_environment.ABOUT_ACCELERATORS:
        monkeypatch.setenv(name, visible)
    assert not set(run_environment.ABOUT_ACCELERATORS) & set(environment())
    monkeypatch.setenv("VERL_PLATFORM", "nvidia")
    assert environment()["CUDA_VISIBLE_DEVICES"] == visible


def test_another_ray_does_not_reach_a_run_with_its_own(environment, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert "RAY_ADDRESS" not in environment()
    assert environment("ray_kwargs.ray_init.address=auto")["RAY_ADDRESS"] == "127.0.0.1:1"


def test_loopback_needs_no_proxy(environment, monkeypatch):
    assert environment()["no_proxy"] == "127.0.0.1,localhost"
    monkeypatch.setenv("no_proxy", "intranet")
    assert environment()["no_proxy"] == "intranet,127.0.0.1,localhost"


def test_temporary_files_are_in_a_folder_of_the_attempt(environment, tmp_path, monkeypatch):
    folder = Path(environment()["TMPDIR"])
    assert (folder / "attempt").read_text() == str(RunFolder(tmp_path).attempts()[-1].path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert Path(environment()["TMPDIR"]).resolve().parent == tmp_path
    assert environment("ray_kwargs.ray_init.address=auto")["TMPDIR"] == str(tmp_path)


def test_a_home_that_does_not_exist_is_replaced(environment, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert environment()["HOME"] == str(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    found = environment()
    assert found["HOME"] == found["TMPDIR"]
    monkeypatch.delenv("HOME")
    assert "HOME" not in environment()  # The one of /etc/passwd is found without it.


def test_trackers_write_into_the_runs_folder_unless_told_otherwise(tmp_path, monkeypatch):
    attempt = RunFolder(tmp_path / "run-7")
    attempt.path.mkdir()
    monkeypatch.setenv("WANDB_DIR", "/mine")
    found = run_environment.variables(attempt.new_attempt())
    assert (found["WANDB_DIR"], found["WANDB_RUN_ID"]) == ("/mine", "run-7")
    assert found["MLFLOW_TRACKING_URI"] == f"sqlite:///{attempt.path}/mlflow.db"
    for name in ("TENSORBOARD_DIR", "SWANLAB_LOG_DIR", "TRACKIO_DIR", "VERL_FILE_LOGGER_PATH"):
        assert Path(found[name]).is_relative_to(attempt.path)


def test_messages_are_authenticated_in_all_processes(environment, tmp_path):
    attempt = RunFolder(tmp_path).attempts()[-1]
    assert environment()[message_authentication.VARIABLE] == "1"
    assert run_environment.variables(attempt)[message_authentication.VARIABLE] == "1"
    assert os.path.basename(environment()["RAY_AUTH_TOKEN_PATH"]) == "ray_token"
