"""One attempt of a run: a child process that runs verl, with its output in a log and its progress on the console."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from reinforcepp_verl.common import durable
from reinforcepp_verl.common.run_folder import Attempt
from reinforcepp_verl.config import config_file
from reinforcepp_verl.integration.verl_patches import SETUP_HOOK
from reinforcepp_verl.runs import run_environment, shared_imports
from reinforcepp_verl.runs.metrics_file import MetricsFile, MetricsFollower
from reinforcepp_verl.runs.run_console import RunConsole
from reinforcepp_verl.runs.run_summary import Summary
from reinforcepp_verl.runs.stop_signals import Stopped

POLL_INTERVAL_S = 0.2
STOP_GRACE_S = 10.0
FILE_LOGGER = "file"


def write_config(config: DictConfig, attempt: Attempt) -> None:
    """Write the config of the training process: resolved, and with verl's outputs directed to the run folder."""
    config = config.copy()
    run = attempt.run
    loggers = [config.trainer.logger] if isinstance(config.trainer.logger, str) else list(config.trainer.logger or [])
    with open_dict(config):
        config.trainer.default_local_dir = str(run.checkpoints)
        config.trainer.validation_data_dir = config.trainer.validation_data_dir or str(run.validation)
        # metrics.jsonl is written from the output of the file logger.
        config.trainer.logger = loggers if FILE_LOGGER in loggers else [*loggers, FILE_LOGGER]
        config.ray_kwargs.ray_init.runtime_env.worker_process_setup_hook = SETUP_HOOK
        config.ray_kwargs.ray_init.runtime_env.env_vars = {
            **run_environment.variables(attempt),
            **(config.ray_kwargs.ray_init.runtime_env.get("env_vars") or {}),
        }
    durable.write(attempt.config, OmegaConf.to_yaml(config, resolve=True).encode())


def kept_config(attempt: Attempt) -> DictConfig:
    """Return the run's configuration from that of an attempt, without what `write_config` added.

    Raises:
        ValueError: it is damaged
    """
    config, run = config_file.load(attempt.config), attempt.run
    with open_dict(config):
        config.trainer.default_local_dir = None
        # The run may have been moved since.
        if Path(config.trainer.validation_data_dir or "").parts[-2:] == run.validation.parts[-2:]:
            config.trainer.validation_data_dir = None
        config.ray_kwargs.ray_init.runtime_env.pop("worker_process_setup_hook", None)
        given = config.ray_kwargs.ray_init.runtime_env.get("env_vars") or {}
        added = run_environment.variables(attempt)
        config.ray_kwargs.ray_init.runtime_env.env_vars = {n: v for n, v in given.items() if n not in added}
    return config


def follow(attempt: Attempt, config: DictConfig, screen: RunConsole, summary: Summary, metrics: MetricsFile) -> int:
    """Show the attempt until its process ends; return its exit code, or 0 if it stopped on request."""
    follower = MetricsFollower(attempt.tracker, metrics)
    with run_environment.of(config, attempt) as environment, _training_process(attempt, environment) as process, screen:
        running = True
        while running:
            running = process.poll() is None
            for record in follower.new_records():
                summary.add(record)
                summary.write(attempt.run.summary)
                screen.show(record)
            if running and attempt.stop_requested() and not attempt.training.exists():
                # There is no step to finish yet, so do not wait for the startup, which can take minutes.
                attempt.stopped.touch()
                _terminate(process)
                break
            time.sleep(POLL_INTERVAL_S if running else 0)
    if attempt.stopped.exists():
        return 0
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


@contextmanager
def _training_process(attempt: Attempt, environment: dict[str, str]) -> Iterator[subprocess.Popen]:
    """Start the worker in a separate session, so that Ctrl-C reaches only this process, which then decides."""
    arguments = ["-m", "reinforcepp_verl.runs.training_process", str(attempt.path), str(os.getpid())]
    command = [*shared_imports.python_for(environment), *arguments]
    with attempt.log.open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        yield process
    except Stopped:
        _terminate(process)
        raise
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _terminate(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
