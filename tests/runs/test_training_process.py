"""Which runs have their processes forked from one that has imported torch and vLLM."""

from __future__ import annotations

import contextlib
import os

import pytest

from reinforcepp_verl.integration.cpu import fork_server, forked_python
from reinforcepp_verl.runs.training_process import forked_workers

RUNTIME_ENV = "ray_kwargs.ray_init.runtime_env"


@pytest.fixture
def program_in(compose, monkeypatch):
    """Return a function that returns the program by which Ray would start its workers."""
    monkeypatch.setattr(fork_server, "started", lambda _: contextlib.nullcontext("/tmp/fork"))
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
