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
from types import FrameType

from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console

from reinforcepp_verl.runs import processes
from reinforcepp_verl.runs.console import RunConsole
from reinforcepp_verl.runs.failure import explain
from reinforcepp_verl.runs.folder import RunFolder, create
from reinforcepp_verl.runs.metrics import MetricsFollower
from reinforcepp_verl.runs.summary import Summary

LOOK_EVERY_S = 0.2
CTRL_C_GRACE_S = 10.0
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class Terminated(Exception):  # noqa: N818  (an event, not an error)
    """SIGTERM was received."""


def train(config: DictConfig, console: Console) -> int:
    """Train with `config` in a new run folder and return the exit code: 0 only when every step was done."""
    folder = create(Path(config.runs_dir), config.trainer.experiment_name)
    _write_config(config, folder)
    console.print(_headline(config), highlight=False, soft_wrap=True)
    console.print(f"run folder: {folder.path}\nfull log:   {folder.log}", highlight=False, soft_wrap=True)
    summary = Summary(seed=config.seed)
    started = time.monotonic()
    exit_code = 1
    try:
        with _sigterm_as_exception():
            exit_code = _follow(folder, config, console, summary)
        summary.status = "finished" if exit_code == 0 else "failed"
    except (KeyboardInterrupt, Terminated) as stop:
        summary.status = "interrupted"
        exit_code = EXIT_TERMINATED if isinstance(stop, Terminated) else EXIT_INTERRUPTED
    finally:
        processes.end_all(str(folder.path))
        summary.seconds = round(time.monotonic() - started, 1)
        if summary.status == "failed":
            summary.error = explain(folder, exit_code)
        summary.write(folder.summary)
    _report(folder, summary, console)
    return exit_code


def _write_config(config: DictConfig, folder: RunFolder) -> None:
    """Write the resolved config; the run's own paths are absolute, as Ray actors have other working folders."""
    config = config.copy()
    with open_dict(config):
        config.trainer.default_local_dir = str(folder.checkpoints)
        config.ray_kwargs.ray_init.runtime_env.env_vars = {
            **(config.ray_kwargs.ray_init.runtime_env.get("env_vars") or {}),
            "VERL_FILE_LOGGER_PATH": str(folder.tracker),
        }
    OmegaConf.save(config, folder.config, resolve=True)


def _headline(config: DictConfig) -> str:
    rollout = config.actor_rollout_ref.rollout
    return (
        f"{config.algorithm.adv_estimator} on {config.actor_rollout_ref.model.path}, "
        f"{config.data.train_batch_size} prompts x {rollout.n} answers a step, "
        f"{config.trainer.nnodes}x{config.trainer.n_gpus_per_node} {config.trainer.device} workers, seed {config.seed}"
    )


def _follow(folder: RunFolder, config: DictConfig, console: Console, summary: Summary) -> int:
    follower = MetricsFollower(folder.tracker, folder.metrics)
    with (
        _training_process(folder, _environment(config)) as process,
        RunConsole(console, config.trainer.total_training_steps) as screen,
    ):
        running = True
        while running:
            running = process.poll() is None
            for record in follower.new_records():
                summary.add(record)
                screen.show(record)
            summary.write(folder.summary)
            time.sleep(LOOK_EVERY_S if running else 0)
    follower.close()
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _environment(config: DictConfig) -> dict[str, str]:
    """Return what the child's environment has beside ours."""
    if config.ray_kwargs.ray_init.get("address") is None:
        # One machine: Ray then stays on loopback, and with it vLLM's servers. The name speaks of what Ray made it for,
        # but nothing else does this: Ray replaces `_node_ip_address=127.0.0.1` by the machine's address.
        return {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    return {}


@contextmanager
def _training_process(folder: RunFolder, extra: dict[str, str]) -> Iterator[subprocess.Popen]:
    """Start the worker in a session of its own, so that Ctrl-C reaches only us and we decide how it ends."""
    command = [sys.executable, "-m", "reinforcepp_verl.runs.worker", str(folder.path)]
    environment = {**os.environ, **extra, processes.MARK: str(folder.path), "PYTHONUNBUFFERED": "1"}
    with folder.log.open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        yield process
    except (KeyboardInterrupt, Terminated):
        process.send_signal(signal.SIGINT)
        try:
            process.wait(CTRL_C_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
        raise
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@contextmanager
def _sigterm_as_exception() -> Iterator[None]:
    def raise_terminated(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    previous = signal.signal(signal.SIGTERM, raise_terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _report(folder: RunFolder, summary: Summary, console: Console) -> None:
    if summary.steps > 0:
        # Imported here: matplotlib takes a second that a run which fails at its start need not wait for.
        from reinforcepp_verl.runs.history import load_history
        from reinforcepp_verl.runs.plot import plot_runs

        plot_runs([load_history(folder.path)], folder.curves)
    if summary.status == "failed":
        console.print(f"[bold red]failed:[/] {summary.error}\nfull log: {folder.log}", highlight=False, soft_wrap=True)
        return
    accuracy = "" if summary.final_val is None else f", validation {summary.initial_val} -> {summary.final_val}"
    console.print(
        f"{summary.status}: {summary.steps} steps in {summary.seconds:.0f} s{accuracy}", highlight=False, soft_wrap=True
    )
    if summary.steps > 0:
        console.print(f"curves: {folder.curves}", highlight=False, soft_wrap=True)
