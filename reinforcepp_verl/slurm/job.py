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

SLURM_RUN_VARIABLE = "REINFORCEPP_SLURM_RUN"
"""Tells train.sbatch the run folder; for a task of an array, with `_` and the task's number appended."""
MOST_SEEDS = 1000
"""Each has a run folder, whose name is in the job's environment; Slurm's own limit is 1001 by default."""
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")


def script() -> Path:
    """Return train.sbatch; the files that it reads are in the same folder."""
    return (config_dir() / "recipe" / "slurm" / "train.sbatch").resolve()


def parse_seeds(array: str) -> list[int]:
    """Return the seeds of `--array`, in Slurm's format: 1,2,3 or 1-8, followed by %2 to run two at a time.

    Raises:
        ValueError: the format is wrong, a seed occurs twice, or there are too many
    """
    ranges = []
    for part in re.sub(r"%[1-9]\d*$", "", array).split(","):
        if not (match := _RANGE.fullmatch(part)):
            raise ValueError(f"--array {array}: {part!r} is not a seed; write --array 1,2,3 or --array 1-8%2")
        ranges.append(range(int(match[1]), int(match[2] or match[1]) + 1))
    if (count := sum(map(len, ranges))) > MOST_SEEDS:
        raise ValueError(f"--array {array}: {count} runs, at most {MOST_SEEDS} in one job; submit several")
    found = [seed for seeds in ranges for seed in seeds]
    if len(found) != len(set(found)) or not all(ranges):
        raise ValueError(f"--array {array}: each seed may occur once, in ascending order; write --array 1,2,3")
    return found


@dataclass(frozen=True)
class Job:
    """The arguments of `sbatch`; `logs` is a folder."""

    name: str
    resources: Resources
    site: Site
    logs: Path
    time: str | None = None
    array: str | None = None

    def command(self, *, test_only: bool = False) -> list[str]:
        """Return the command: the site's options, the needs of the run, then the script, without arguments."""
        # The run folder is passed as a variable, and the site's default may be --export=NONE.
        inherit = "--export=ALL"
        gpus = f"{self.site.gpu_type}:{self.resources.gpus}".removeprefix(":")
        options = {
            "--test-only": test_only,
            f"--job-name={self.name}": True,
            f"--nodes={self.resources.nodes}": True,
            f"--gpus-per-node={gpus}": self.resources.device != "cpu",
            # Ray needs whole nodes, and other jobs on them could take its ports.
            "--exclusive": self.resources.nodes > 1,
            f"--time={self.time}": self.time is not None,
            f"--array={self.array}": self.array is not None,
            f"--output={self.logs}/slurm-{'%A_%a' if self.array else '%j'}.log": True,
        }
        chosen = [option for option, applies in options.items() if applies]
        return ["sbatch", "--parsable", inherit, *self.site.sbatch_args, *chosen, str(script())]

    def variables(self, runs: Mapping[int | None, Path | str]) -> dict[str, str]:
        """Return the environment variables with the run folders for the script: one per seed, or one for None."""
        suffixes = {seed: "" if seed is None else f"_{seed}" for seed in runs}
        named = {SITE_VARIABLE: str(self.site.file)} if self.site.file.exists() else {}
        return named | {f"{SLURM_RUN_VARIABLE}{suffixes[seed]}": str(run) for seed, run in runs.items()}


def as_typed(command: list[str], variables: Mapping[str, str]) -> str:
    """Return a command as typed in a shell."""
    return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in variables.items()), shlex.join(command)])


def without_secrets(environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Split an environment into the variables that a job may inherit through Slurm, and the names of secret ones."""
    held_back = sorted(name for name, value in environment.items() if is_secret_variable(name, value))
    return {name: value for name, value in environment.items() if name not in held_back}, held_back


def require_sbatch() -> None:
    """Raise ValueError if Slurm is not installed."""
    if shutil.which("sbatch") is None:
        raise ValueError("sbatch is not on PATH: submit from a login node of the cluster (--dry-run works anywhere)")


def call_sbatch(command: list[str], variables: Mapping[str, str]) -> str:
    """Run sbatch and return its output: with --parsable the job id, with --test-only the estimate.

    Raises:
        ValueError: it refuses the job; the message contains its output
    """
    environment, _ = without_secrets(os.environ)
    done = subprocess.run(command, env=environment | dict(variables), capture_output=True, text=True)
    said = (done.stdout + done.stderr).strip()
    if done.returncode != 0:
        raise ValueError(f"sbatch refused the job: {' '.join(said.split())}")
    # --test-only reports on stderr; with several clusters, --parsable appends the cluster's name to the id.
    return done.stdout.strip().partition(";")[0] or said
