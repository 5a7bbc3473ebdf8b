"""Which runs have their processes forked from one that has imported torch and vLLM."""

from __future__ import annotations

import contextlib
import os

import pytest

from reinforcepp_verl.integration.cpu import fork_server, forked_python
from reinforcepp_verl.runs.training_process import describe, forked_workers

RUNTIME_ENV = "ray_kwargs.ray_init.runtime_env"


@pytest.fixture
def program_in(compose, monkeypatch):
    """Return a function that returns the program by which Ray would start its workers."""
    monkeypatch.setattr(fork_server, "started", lambda *_: contextlib.nullcontext("/tmp/fork"))
    monkeypatch.setenv(forked_python.VARIABLE, "")

    def program(*overrides: str) -> str | None:
        config = compose("+recipe=math_rlvr/arithmetic", f"{RUNTIME_ENV}.env_vars={{A: b}}", *overrides)
        with forked_workers(config):
            return config.ray_kwargs.ray_init.runtime_env.py_executable

    return program


def test_the_cpu_recipes_are_forked(program_in):
    assert program_in() == os.environ[forked_python.VARIABLE] == "/tmp/fork"


@pytest.mark.parametrize(
    "override",
    [
        "trainer.device=cuda",
        "ray_kwargs.ray_init.address=auto",
        "actor_rollout_ref.rollout.full_determinism=true",
        "reward.reward_model.rollout.full_determinism=true",
        f"{RUNTIME_ENV}.pip=[numpy]",
    ],
)
def test_runs_elsewhere_or_in_another_python_are_not(program_in, override):
    assert program_in(override) is None


def test_a_python_of_the_users_is_kept(program_in):
    assert program_in(f"{RUNTIME_ENV}.py_executable=/usr/bin/python3") == "/usr/bin/python3"


def test_an_error_that_ray_cannot_pickle_is_found_in_its_traceback():
    text = """\
Exception pydantic_core._pydantic_core.ValidationError isn't serializable: cannot pickle 'ArgsKwargs' object.
Original exception details:
Traceback (most recent call last):
  File "arg_utils.py", line 2773, in create_engine_config
    config = VllmConfig(
pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig
  Value error, Cannot find the config file for awq [type=value_error, input_value=ArgsKwargs(()), input_type=ArgsKwargs]
    For further information visit https://errors.pydantic.dev/2.14/v/value_error
"""
    assert describe(RuntimeError(text)) == (
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig: Value error, Cannot find the "
        "config file for awq"
    )
    assert describe(RuntimeError("no memory")) == "RuntimeError: no memory"
