"""The training process of a run: stock verl on the run's resolved configuration; records the error if it fails.

Started by `reinforcepp` as `python -m reinforcepp_verl.runs.training_process ATTEMPT PID`;
all output goes to the log of the attempt.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from reinforcepp_verl.common import durable
from reinforcepp_verl.common.parent_process import end_with_parent
from reinforcepp_verl.common.run_folder import Attempt
from reinforcepp_verl.common.slow_ray_start import retry_slow_ray_start
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import value
from reinforcepp_verl.integration.cpu import fork_server, forked_python
from reinforcepp_verl.runs import shared_imports
from reinforcepp_verl.runs.engine_error import root_error

NOT_PICKLED = "isn't serializable"


def describe(error: BaseException) -> str:
    """Return type and message of the root error: Ray wraps an error in a worker several times.

    An error that cannot be pickled, such as pydantic's, comes as its traceback in the message of another one.
    """
    from ray.exceptions import RayTaskError

    cause: object = error
    while isinstance(cause, BaseException):
        error = cause
        cause = error.cause if isinstance(error, RayTaskError) else error.__cause__
    if NOT_PICKLED in str(error) and (found := root_error(str(error).partition(NOT_PICKLED)[2].splitlines())):
        return found
    return f"{type(error).__name__}: {error}".rstrip(": ")


@contextmanager
def forked_workers(config: DictConfig) -> Iterator[None]:
    """Let Ray fork its workers from one process if all of them run on this machine's CPU, in this Python."""
    runtime_env = value(config, keys.RUNTIME_ENV)
    # Full determinism sets a seed for Python's hashes, which Python reads when it starts.
    deterministic = value(config, keys.FULL_DETERMINISM) or value(config, keys.REWARD_MODEL_FULL_DETERMINISM)
    local = value(config, keys.DEVICE) == "cpu" and value(config, keys.RAY_ADDRESS) == "local"
    another_python = {name for name, given in runtime_env.items() if given is not None} - {
        "env_vars",
        "worker_process_setup_hook",
    }
    if not local or deterministic or another_python:
        yield
        return
    environment = {**os.environ, **runtime_env.env_vars}
    server = [*shared_imports.python_for(environment), *fork_server.MODULE]
    with fork_server.started(environment, server) as stand_in:
        if stand_in:
            runtime_env.py_executable = os.environ[forked_python.VARIABLE] = stand_in
        yield


def main(folder: Path, parent: int) -> None:
    """Train; before an exception ends the process, it is written to the attempt's failure file."""
    end_with_parent(parent)
    attempt = Attempt(folder)
    config = OmegaConf.load(attempt.config)
    assert isinstance(config, DictConfig)
    try:
        with forked_workers(config):
            _train(config)
    except Exception as error:
        durable.write(attempt.failure, f"{describe(error)}\n".encode(errors="replace"))
        raise


def _train(config: DictConfig) -> None:
    from verl.trainer.main_ppo import main as verl_main

    from reinforcepp_verl.preflight import registered_names

    # The preflight does not always import verl, and verl hides an exception in the import of its plugins.
    if unknown := registered_names.look_up(config):
        raise ValueError("; ".join(unknown))
    # The body of verl's own command: device, validation, choice of trainer. Hydra has already run.
    retry_slow_ray_start(verl_main.__wrapped__, config)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
