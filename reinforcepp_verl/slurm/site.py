"""site.env: the cluster-specific settings, in Bash because the job's script reads it too."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SITE_FILE = "site.env"
SITE_VARIABLE = "SITE_ENV"
TIME_LIMIT_S = 30
# NUL-separated, because options may contain any other character; functions in the file are not called.
_PRINT = 'set -e; SBATCH_ARGS=() GPU_TYPE=; source "$1" >&2; printf "%s\\0" "$GPU_TYPE" "${SBATCH_ARGS[@]}"'


@dataclass(frozen=True)
class Site:
    """The settings needed to submit a job."""

    file: Path
    sbatch_args: tuple[str, ...] = ()
    gpu_type: str = ""


def read(folder: Path) -> Site:
    """Read the file in SITE_ENV, or `folder`/site.env, which is optional.

    Raises:
        ValueError: Bash cannot read it, or not within the time limit
    """
    named = os.environ.get(SITE_VARIABLE)
    file = Path(named).resolve() if named else folder / SITE_FILE
    if not file.exists() and not named:
        return Site(file)
    try:
        output = _settings(file, folder)
    except ValueError as error:
        raise ValueError(f"{file}: {error}; correct it (recipes/slurm/site.env.example)") from None
    gpu_type, *sbatch_args = output.removesuffix("\0").split("\0")
    return Site(file, tuple(sbatch_args), gpu_type)


def _settings(file: Path, folder: Path) -> str:
    """Return what Bash prints; the file may also start programs, which are ended with it."""
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = ["bash", "-c", _PRINT, "bash", str(file)]
    with subprocess.Popen(command, text=True, cwd=folder, start_new_session=True, **pipes) as bash:
        try:
            output, errors = bash.communicate(timeout=TIME_LIMIT_S)
        except subprocess.TimeoutExpired:
            raise ValueError(f"not read within {TIME_LIMIT_S} s; it must only set variables") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(bash.pid, signal.SIGKILL)
    if bash.returncode:
        said = errors.strip().splitlines() or [f"Bash ended with exit code {bash.returncode}"]
        raise ValueError(said[-1])
    if not output.endswith("\0"):
        raise ValueError("it ends Bash (exit), and with it every job; it must only set variables")
    return output
