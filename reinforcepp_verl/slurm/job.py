"""The sbatch command of a run, or of an array of runs with different seeds."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reinforcepp_verl.config.search_path import config_dir
from reinforcepp_verl.preflight.secrets import is_secret_variable
from reinforcepp_verl.slurm.resources import Resources
from reinforcepp_verl.slurm.site import SITE_VARIABLE, Site

RUN_VARIABLE = "REINFORCEPP_SLURM_RUN"
"""Tells train.sbatch its run's folder; of a task in an array, with _ and the task's number after it."""
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def script() -> Path:
    """Return train.sbatch; the files that it reads lie beside it."""
    return (config_dir() / "recipe" / "slurm" / "train.sbatch").resolve()


def parse_seeds(array: str) -> list[int]:
    """Return the seeds of `--array`, which has Slurm's form: 1,2,3 or 1-8, and %2 after it for two at a time.

    Raises:
        ValueError: it has another form, or a seed twice
    """
    found: list[int] = []
    for part in re.sub(r"%[1-9]\d*$", "", array).split(","):
        if not (match := _RANGE.fullmatch(part)):
            raise ValueError(f"--array {array}: {part!r} is no seed; write --array 1,2,3 or --array 1-8%2")
        found += range(int(match[1]), int(match[2] or match[1]) + 1)
    if len(found) != len(set(found)) or not found:
        raise ValueError(f"--array {array}: each seed may be there once, the smaller first; write --array 1,2,3")
    return found


@dataclass(frozen=True)
class Job:
    """What `sbatch` is called with; `logs` is a folder."""

    name: str
    resources: Resources
    site: Site
    logs: Path
    time: str | None = None
    array: str | None = None

    def command(self, *, test_only: bool = False) -> list[str]:
        """Return the command: the site's options, then what the run needs, then the script, which takes no argument."""
        # The run's folder is a variable; sites may have --export=NONE as their default.
        inherit = "--export=ALL"
        gpus = f"{self.site.gpu_type}:{self.resources.gpus}".removeprefix(":")
        options = {
            "--test-only": test_only,
            f"--job-name={self.name}": True,
            f"--nodes={self.resources.nodes}": True,
            f"--gpus-per-node={gpus}": self.resources.device != "cpu",
            # Ray's nodes have no use for half of a machine, and others' jobs there would take its ports.
            "--exclusive": self.resources.nodes > 1,
            f"--time={self.time}": self.time is not None,
            f"--array={self.array}": self.array is not None,
            f"--output={self.logs}/slurm-{'%A_%a' if self.array else '%j'}.log": True,
        }
        chosen = [option for option, applies in options.items() if applies]
        return ["sbatch", "--parsable", inherit, *self.site.sbatch_args, *chosen, str(script())]

    def variables(self, runs: Mapping[int | None, Path | str]) -> dict[str, str]:
        """Return the environment variables that tell the script where the runs are: of each seed, or of None."""
        suffixes = {seed: "" if seed is None else f"_{seed}" for seed in runs}
        named = {SITE_VARIABLE: str(self.site.file)} if self.site.file.exists() else {}
        return named | {f"{RUN_VARIABLE}{suffixes[seed]}": str(run) for seed, run in runs.items()}


def as_typed(command: list[str], variables: Mapping[str, str]) -> str:
    """Return a command as one would type it."""
    return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in variables.items()), shlex.join(command)])


def without_secrets(environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Split an environment: what a job may inherit through Slurm, and the names of passwords and tokens."""
    held_back = sorted(name for name, value in environment.items() if is_secret_variable(name, value))
    return {name: value for name, value in environment.items() if name not in held_back}, held_back


def require_sbatch() -> None:
    """Raise ValueError where Slurm is not installed."""
    if shutil.which("sbatch") is None:
        raise ValueError("sbatch is not on PATH: submit from a login node of the cluster (--dry-run works anywhere)")


def call_sbatch(command: list[str], variables: Mapping[str, str]) -> str:
    """Run sbatch and return what it prints: with --parsable the job's id, with --test-only its estimate.

    Raises:
        ValueError: it refuses the job; its own words are in the message
    """
    environment, _ = without_secrets(os.environ)
    done = subprocess.run(command, env=environment | dict(variables), capture_output=True, text=True)
    said = (done.stdout + done.stderr).strip()
    if done.returncode != 0:
        raise ValueError(f"sbatch refused the job: {' '.join(said.split())}")
    # --test-only reports on stderr; --parsable adds the cluster's name to the id where there are several.
    return done.stdout.strip().partition(";")[0] or said
