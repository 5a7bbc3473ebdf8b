"""Submits a checked configuration as a Slurm job, after creating its run folders."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from reinforcepp_verl.common import durable
from reinforcepp_verl.common.terminal import echo
from reinforcepp_verl.preflight.findings import PreflightWarning
from reinforcepp_verl.runs import launch
from reinforcepp_verl.slurm import job, site
from reinforcepp_verl.slurm.job import Job
from reinforcepp_verl.slurm.resources import required_resources

JOB_ID = Path("slurm") / "job_id"
"""File in a run folder with the job id, written here and by train.sbatch."""


@dataclass(frozen=True)
class Request:
    """The options of `reinforcepp slurm submit`."""

    nodes: int | None = None
    time: str | None = None
    array: str | None = None
    dry_run: bool = False
    test_only: bool = False


def submit(config: DictConfig, request: Request, warnings: Sequence[PreflightWarning] = ()) -> None:
    """Submit `config`, which has been checked, or show what would be submitted.

    Raises:
        ValueError: the request is invalid, or Slurm refuses the job
    """
    seeds: list[int | None] = [None] if request.array is None else [*job.parse_seeds(request.array)]
    runs_dir = Path(config.runs_dir).expanduser().resolve()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", config.trainer.experiment_name)
    resources = required_resources(config, request.nodes)
    wanted = Job(name, resources, site.read(Path.cwd()), runs_dir, request.time, request.array)
    if request.dry_run:
        _show(config, wanted, seeds)
        return
    job.require_sbatch()
    estimate = job.call_sbatch(wanted.command(test_only=True), {})
    if request.test_only:
        echo(estimate)
        return
    _submit(config, wanted, seeds, warnings)


def _submit(config: DictConfig, wanted: Job, seeds: list[int | None], warnings: Sequence[PreflightWarning]) -> None:
    """Create the run folders, submit the job, and print the folders."""
    _, held_back = job.without_secrets(os.environ)
    if held_back:
        echo(f"not passed to the job: {', '.join(held_back)}; put them into SECRETS_FILE (site.env)", err=True)
    runs = {seed: launch.new_run(_with_seed(config, seed), warnings) for seed in seeds}
    job_id = job.call_sbatch(wanted.command(), wanted.variables({seed: run.path for seed, run in runs.items()}))
    for seed, run in runs.items():
        task = job_id if seed is None else f"{job_id}_{seed}"
        (run.path / JOB_ID).parent.mkdir(exist_ok=True)
        durable.write(run.path / JOB_ID, f"{task}\n".encode())
        echo(f"job {task}: {run.path}")
    echo(f"watch: reinforcepp slurm status {shlex.quote(str(wanted.logs))}", err=True)


def _with_seed(config: DictConfig, seed: int | None) -> DictConfig:
    config = config.copy()
    if seed is not None:
        config.seed = seed
    return config


def _show(config: DictConfig, wanted: Job, seeds: list[int | None]) -> None:
    """Print command, script and configuration."""
    # Values that are unknown before the folders are created are shown in <>.
    runs: dict[int | None, Path | str] = {seed: f"{wanted.logs}/<time>_{wanted.name}" for seed in seeds}
    echo(f"# command\n{job.as_typed(wanted.command(), wanted.variables(runs))}\n")
    echo(f"# script {job.script()}\n{job.script().read_text()}")
    echo(f"# configuration\n{OmegaConf.to_yaml(config, resolve=True)}")
