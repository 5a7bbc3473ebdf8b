"""Run one training job: a child process with verl in it, its output in a log, its progress on the console."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console

from reinforcepp_verl.runs import processes
from reinforcepp_verl.runs.console import RunConsole, headline, show_outcome
from reinforcepp_verl.runs.failure import explain
from reinforcepp_verl.runs.folder import RunFolder, create
from reinforcepp_verl.runs.metrics import MetricsFollower
from reinforcepp_verl.runs.signals import Stopped, stopping_signals_raise
from reinforcepp_verl.runs.summary import Summary

LOOK_EVERY_S = 0.2
STOP_GRACE_S = 10.0
EXIT_FAILED = 1
FILE_LOGGER = "file"


def train(config: DictConfig, console: Console) -> int:
    """Train with `config` in a new run folder and return the exit code: 0 only when every step was done."""
    return run_in(create(Path(config.runs_dir), config.trainer.experiment_name), config, console)


def run_in(folder: RunFolder, config: DictConfig, console: Console) -> int:
    """Do what `config` asks for, training or validation, with all files in `folder`; return the exit code."""
    summary = Summary(seed=config.seed)
    started = time.monotonic()
    with stopping_signals_raise() as ignore_further_signals:
        try:
            _write_config(config, folder)
            headline(config, folder, console)
            exit_code = _follow(folder, config, console, summary)
            exit_code = _judge(exit_code, folder, config, summary)
        except Stopped as stop:
            summary.status, exit_code = "interrupted", stop.exit_code
        except BaseException as error:
            summary.status, summary.error = "failed", f"{type(error).__name__}: {error}"
            raise
        finally:
            ignore_further_signals()
            summary.seconds = round(time.monotonic() - started, 1)
            try:
                processes.end_all(str(folder.path))
            finally:
                summary.write(folder.summary)
    show_outcome(folder, summary, console)
    return exit_code


def _judge(exit_code: int, folder: RunFolder, config: DictConfig, summary: Summary) -> int:
    """Set the summary's status; verl also ends well when its epochs are over before the steps are done."""
    wanted = 0 if config.trainer.val_only else config.trainer.total_training_steps or 0
    if exit_code != 0:
        summary.status, summary.error = "failed", explain(folder, exit_code)
    elif summary.steps < wanted:
        summary.status = "failed"
        summary.error = f"ended after {summary.steps} of {wanted} steps: raise trainer.total_epochs"
        return EXIT_FAILED
    else:
        summary.status = "finished"
    return exit_code


def _write_config(config: DictConfig, folder: RunFolder) -> None:
    """Write the resolved config, with what makes verl write into this run's folder."""
    config = config.copy()
    loggers = [config.trainer.logger] if isinstance(config.trainer.logger, str) else list(config.trainer.logger or [])
    with open_dict(config):
        config.trainer.default_local_dir = str(folder.checkpoints)
        config.trainer.validation_data_dir = config.trainer.validation_data_dir or str(folder.validation)
        # metrics.jsonl is made from what the file logger writes.
        config.trainer.logger = loggers if FILE_LOGGER in loggers else [*loggers, FILE_LOGGER]
        config.ray_kwargs.ray_init.runtime_env.env_vars = {
            **(config.ray_kwargs.ray_init.runtime_env.get("env_vars") or {}),
            "VERL_FILE_LOGGER_PATH": str(folder.tracker),
        }
    OmegaConf.save(config, folder.config, resolve=True)


def _follow(folder: RunFolder, config: DictConfig, console: Console, summary: Summary) -> int:
    """Show the run until its process ends; return that process's exit code."""
    follower = MetricsFollower(folder.tracker, folder.metrics)
    summary.write(folder.summary)
    with (
        _training_process(folder, _environment(config, folder)) as process,
        RunConsole(console, config.trainer.total_training_steps) as screen,
    ):
        running = True
        while running:
            running = process.poll() is None
            for record in follower.new_records():
                summary.add(record)
                summary.write(folder.summary)
                screen.show(record)
            time.sleep(LOOK_EVERY_S if running else 0)
    follower.close()
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _environment(config: DictConfig, folder: RunFolder) -> dict[str, str]:
    """Return the environment of the training process, which all processes of the run inherit."""
    environment = {
        **os.environ,
        processes.MARK: str(folder.path),
        # Ray's agents rename themselves, which overwrites the environment that carries the mark.
        "SPT_NOENV": "1",
        # The log is to be whole: Ray would leave out lines that repeat.
        "RAY_DEDUP_LOGS": "0",
        "PYTHONUNBUFFERED": "1",
    }
    if config.ray_kwargs.ray_init.get("address") == "local":
        # Ray then stays on loopback, and with it vLLM's servers. The name speaks of what Ray made it for, but nothing
        # else does this: Ray replaces `_node_ip_address=127.0.0.1` by the machine's address.
        environment["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    return environment


@contextmanager
def _training_process(folder: RunFolder, environment: dict[str, str]) -> Iterator[subprocess.Popen]:
    """Start the worker in a session of its own, so that Ctrl-C reaches only us and we decide how it ends."""
    command = [sys.executable, "-m", "reinforcepp_verl.runs.worker", str(folder.path)]
    with folder.log.open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        yield process
    except Stopped:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
        raise
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
