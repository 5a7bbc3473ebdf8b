"""site.env: the cluster-specific settings, in Bash because the job's script reads it too."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

SITE_FILE = "site.env"
SITE_VARIABLE = "SITE_ENV"
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
        ValueError: Bash cannot read it
    """
    named = os.environ.get(SITE_VARIABLE)
    file = Path(named).resolve() if named else folder / SITE_FILE
    if not file.exists() and not named:
        return Site(file)
    done = subprocess.run(["bash", "-c", _PRINT, "bash", str(file)], capture_output=True, text=True, cwd=folder)
    if done.returncode != 0:
        raise ValueError(f"{file}: {done.stderr.strip().splitlines()[-1]}; repair it (recipes/slurm/site.env.example)")
    gpu_type, *sbatch_args = done.stdout.removesuffix("\0").split("\0")
    return Site(file, tuple(sbatch_args), gpu_type)
