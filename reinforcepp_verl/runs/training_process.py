"""The training process of a run: stock verl on the run's resolved configuration, and a note of why it failed.

Started by `reinforcepp` as `python -m reinforcepp_verl.runs.training_process ATTEMPT PID`;
all output goes to the log of the attempt.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

from omegaconf import OmegaConf
from ray.exceptions import RayTaskError
from tenacity import Retrying, retry_if_exception, stop_after_attempt

from reinforcepp_verl.common.run_folder import Attempt

PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """Have the kernel end this process when `reinforcepp train` itself, process `parent`, is killed."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the command that started this process is gone")


def _ray_was_slow(error: BaseException) -> bool:
    return "node timed out during startup" in str(error)


# Ray waits 30 s for its own process, which is short on a busy machine, and cannot be told to wait longer. Nothing of
# the run has begun then.
retry_slow_ray_start = Retrying(retry=retry_if_exception(_ray_was_slow), stop=stop_after_attempt(3), reraise=True)


def describe(error: BaseException) -> str:
    """Return type and message of the error at the root: Ray wraps what happened in a worker several times."""
    cause: object = error
    while isinstance(cause, BaseException):
        error = cause
        cause = error.cause if isinstance(error, RayTaskError) else error.__cause__
    return f"{type(error).__name__}: {error}".rstrip(": ")


def main(folder: Path, parent: int) -> None:
    """Train; an exception is written to the attempt's failure file before it ends the process."""
    end_with_parent(parent)
    attempt = Attempt(folder)
    try:
        from verl.trainer.main_ppo import main as verl_main

        # The body of verl's own command: device, validation, choice of trainer. Hydra has done its part already.
        retry_slow_ray_start(verl_main.__wrapped__, OmegaConf.load(attempt.config))
    except Exception as error:
        attempt.failure.write_text(describe(error) + "\n", encoding="utf-8")
        raise


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
