"""What a run's processes find in their environment, whatever the shell that started it has exported."""

from __future__ import annotations

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
            if attempt.temporary.exists():
                created.append(attempt.temporary.read_text())
            return dict(variables)

    created: list[str] = []
    yield of
    for folder in created:
        attempt.temporary.write_text(folder)
        temporary_folder.remove(RunFolder(tmp_path))


def test_a_model_that_is_not_a_toy_uses_all_cores(environment, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(run_environment.os, "sched_getaffinity", lambda process: set(range(4)))
    large = "actor_rollout_ref.model.path=Qwen/Qwen2.5-0.5B-Instruct"
    assert environment()["OMP_NUM_THREADS"] == "1"
    assert environment(large)["OMP_NUM_THREADS"] == "4"
    assert environment(large, "trainer.n_gpus_per_node=2")["OMP_NUM_THREADS"] == "2"
    assert environment(large, "trainer.n_gpus_per_node=8")["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert environment(large)["OMP_NUM_THREADS"] == "3"


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


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "127.0.0.1,localhost"),
        ({"no_proxy": "intranet"}, "intranet,127.0.0.1,localhost"),
        ({"NO_PROXY": "intranet"}, "intranet,127.0.0.1,localhost"),
        ({"no_proxy": "a,localhost", "NO_PROXY": "b"}, "a,localhost,b,127.0.0.1"),
    ],
)
def test_loopback_needs_no_proxy(environment, monkeypatch, given, found):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    variables = environment()
    assert variables["no_proxy"] == variables["NO_PROXY"] == found


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
def test_temporary_files_are_in_a_folder_of_the_attempt(environment, tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, str(tmp_path))
    found = environment()
    assert found["TMPDIR"] == found["RAY_TMPDIR"]
    assert Path(found["TMPDIR"]).resolve().parent == tmp_path
    assert environment("ray_kwargs.ray_init.address=auto")[name] == str(tmp_path)


def test_compiled_kernels_outlive_the_attempt(environment, monkeypatch):
    monkeypatch.setenv("VERL_PLATFORM", "nvidia")
    found = environment()
    assert not Path(found["TORCHINDUCTOR_CACHE_DIR"]).is_relative_to(found["TMPDIR"])
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/mine")
    assert environment()["TORCHINDUCTOR_CACHE_DIR"] == "/mine"


def test_a_home_that_does_not_exist_is_replaced(environment, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert environment()["HOME"] == str(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    found = environment()
    assert found["HOME"] == found["TMPDIR"]
    monkeypatch.delenv("HOME")
    assert "HOME" not in environment()  # The one of /etc/passwd is found without it.


def test_a_home_that_cannot_be_written_is_replaced_and_its_models_are_found(environment, tmp_path, monkeypatch):
    home = tmp_path / "home"
    (home / ".cache/huggingface/hub").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    for name in run_environment.MODEL_CACHES:
        monkeypatch.delenv(name, raising=False)
    assert environment()["HOME"] == str(home) and "HF_HUB_CACHE" not in environment()
    monkeypatch.setattr(run_environment, "_can_write", lambda folder: folder != str(home))
    found = environment()
    assert found["HOME"] == found["TMPDIR"] and found["HF_HUB_CACHE"] == f"{home}/.cache/huggingface/hub"
    assert "HF_TOKEN_PATH" not in found
    monkeypatch.setenv("HF_HUB_CACHE", "/mine")
    assert environment()["HF_HUB_CACHE"] == "/mine"
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.setenv("HF_HOME", "/mine")  # Which HF_HUB_CACHE would overrule.
    assert "HF_HUB_CACHE" not in environment()
    monkeypatch.undo()
    assert not run_environment._can_write("/proc") and run_environment._can_write(str(home))


@pytest.mark.parametrize("given", ["many", "", "0", "-1", "1.5"])
def test_thread_counts_that_are_no_numbers_are_left_out(environment, monkeypatch, given):
    for name in run_environment.THREAD_COUNTS:
        monkeypatch.setenv(name, given)
    found = environment()
    assert found["OMP_NUM_THREADS"] == "1"  # our default
    assert not {"MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"} & set(found)
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    assert environment()["OMP_NUM_THREADS"] == "4,2"


def test_files_are_read_as_utf8_in_every_locale(environment, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.setenv("PYTHONUTF8", "0")
    assert (environment()["PYTHONUTF8"], environment()["PYTHONIOENCODING"]) == ("1", "utf-8")


def test_trackers_write_into_the_runs_folder_unless_told_otherwise(tmp_path, monkeypatch):
    run = RunFolder(tmp_path / "run-7")
    run.path.mkdir()
    for name in ("TENSORBOARD_DIR", "WANDB_DIR", "WANDB_RUN_ID", "SWANLAB_LOG_DIR", "TRACKIO_DIR"):
        monkeypatch.delenv(name, raising=False)
    # verl prints these variables.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@db/mlflow")
    found = run_environment.variables(run.new_attempt())
    assert found["WANDB_RUN_ID"] == "run-7" and "MLFLOW_TRACKING_URI" not in found
    for name in ("TENSORBOARD_DIR", "WANDB_DIR", "SWANLAB_LOG_DIR", "TRACKIO_DIR", "VERL_FILE_LOGGER_PATH"):
        assert Path(found[name]).is_relative_to(run.path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("WANDB_DIR", "/mine")
    found = run_environment.variables(run.attempts()[0])
    assert found["MLFLOW_TRACKING_URI"] == f"sqlite:///{run.path}/mlflow.db" and "WANDB_DIR" not in found


def test_messages_are_authenticated_in_all_processes(environment, tmp_path):
    attempt = RunFolder(tmp_path).attempts()[-1]
    assert environment()[message_authentication.VARIABLE] == "1"
    assert run_environment.variables(attempt)[message_authentication.VARIABLE] == "1"
    found = environment()
    assert found["RAY_AUTH_TOKEN_PATH"] == f"{found['TMPDIR']}/ray_token"
