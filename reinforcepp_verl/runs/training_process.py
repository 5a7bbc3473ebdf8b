"""The training process of a run: stock verl on the run's resolved configuration; records the error if it fails.

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
    """Let the kernel end this process when `reinforcepp train`, process `parent`, is killed."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the command that started this process has ended")


def _ray_was_slow(error: BaseException) -> bool:
    return "node timed out during startup" in str(error)


# Ray waits 30 s for its own process, which is short on a busy machine and not configurable. At this point nothing of
# the run has started, so it can be retried.
retry_slow_ray_start = Retrying(retry=retry_if_exception(_ray_was_slow), stop=stop_after_attempt(3), reraise=True)


def describe(error: BaseException) -> str:
    """Return type and message of the root error: Ray wraps an error in a worker several times."""
    cause: object = error
    while isinstance(cause, BaseException):
        error = cause
        cause = error.cause if isinstance(error, RayTaskError) else error.__cause__
    return f"{type(error).__name__}: {error}".rstrip(": ")


def main(folder: Path, parent: int) -> None:
    """Train; before an exception ends the process, it is written to the attempt's failure file."""
    end_with_parent(parent)
    attempt = Attempt(folder)
    try:
        from verl.trainer.main_ppo import main as verl_main

        # The body of verl's own command: device, validation, choice of trainer. Hydra has already run.
        retry_slow_ray_start(verl_main.__wrapped__, OmegaConf.load(attempt.config))
    except Exception as error:
        attempt.failure.write_text(describe(error) + "\n", encoding="utf-8")
        raise


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
