"""Runs an attempt from its folder to its outcome; shared by `reinforcepp create`, `train` and `resume`."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console

from reinforcepp_verl.checkpoints import store
from reinforcepp_verl.common import durable
from reinforcepp_verl.common.run_folder import Attempt, RunFolder, create
from reinforcepp_verl.common.terminal import say
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.nodes import read_samples
from reinforcepp_verl.preflight.findings import PreflightWarning
from reinforcepp_verl.report.run_records import Record, start_step
from reinforcepp_verl.runs import attempt as attempts
from reinforcepp_verl.runs import processes, temporary_folder
from reinforcepp_verl.runs.failure_cause import failure_cause
from reinforcepp_verl.runs.metrics_file import MetricsFile
from reinforcepp_verl.runs.run_console import RunConsole, headline, show_outcome
from reinforcepp_verl.runs.run_summary import Summary
from reinforcepp_verl.runs.shown_samples import ShownSamples
from reinforcepp_verl.runs.stop_signals import Stopped, raise_on_stop_signals
from reinforcepp_verl.training_samples.files import SampleFiles

EXIT_FAILED = 1
EXIT_STOPPED = 75
"""The run stopped on request, saved, and can be resumed: EX_TEMPFAIL of sysexits.h, "try again"."""


def new_run(config: DictConfig, warnings: Sequence[PreflightWarning] = ()) -> RunFolder:
    """Create a run folder with its configuration and warnings, without starting anything."""
    folder = create(Path(config.runs_dir), config.trainer.experiment_name)
    save_config(config, folder)
    save_warnings(warnings, folder)
    Summary(seed=config.seed).write(folder.summary)
    return folder


def save_config(config: DictConfig, folder: RunFolder) -> None:
    """Write the configuration of the run's next attempt, with references resolved."""
    config = config.copy()
    with open_dict(config):
        # Set by each attempt; the preflight refuses it in a user's configuration.
        config.trainer.default_local_dir = None
    durable.write(folder.config, OmegaConf.to_yaml(config, resolve=True).encode())


def save_warnings(warnings: Sequence[PreflightWarning], folder: RunFolder) -> None:
    """Write the warnings about the configuration of the run's next attempt; without warnings, remove the file."""
    if warnings:
        durable.write(folder.warnings, "".join(f"{warning}\n" for warning in warnings).encode())
    else:
        folder.warnings.unlink(missing_ok=True)


def train(config: DictConfig, console: Console, warnings: Sequence[PreflightWarning] = ()) -> int:
    """Train with `config` in a new run folder and return the exit code: 0 only if all steps are done."""
    folder = new_run(config, warnings)
    with run_lock(folder):
        return run_attempt(folder, config, {}, console)


@contextmanager
def run_lock(folder: RunFolder) -> Iterator[None]:
    """Hold the run's lock, which is released when this process ends for any reason.

    Raises:
        ValueError: another command is running this run
    """
    lock = FileLock(folder.lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"{folder.path}: another command is running it; to stop it: touch {folder.stop}") from None
    try:
        yield
    finally:
        lock.release()


def clear_evaluations(run: RunFolder) -> list[str]:
    """Remove what killed evaluations of the run have left outside their folders; return what could not be removed."""
    problems = []
    for folder in sorted(run.evaluations.glob("*")):
        evaluation = RunFolder(folder)
        if folder.is_dir() and any(attempt.temporary.is_file() for attempt in evaluation.attempts()):
            lock = FileLock(evaluation.lock)
            with suppress(Timeout), lock.acquire(timeout=0):  # Locked while it is running.
                problems += clear_killed(evaluation)
    return problems


def clear_killed(run: RunFolder) -> list[str]:
    """End the processes of a killed attempt on this machine, and remove what it has left outside its folder.

    They would keep writing, and maybe saving. Returns what could not be removed.
    """
    processes.terminate_all(str(run.path))
    return temporary_folder.remove(run)


def run_attempt(folder: RunFolder, config: DictConfig, records: dict[int, Record], console: Console) -> int:
    """Run the training or validation of `config` as the next attempt of a run; return the exit code.

    `records` are the steps done before, by number.
    """
    started = time.monotonic()
    store.clear_leftovers(folder.checkpoints)
    attempt = folder.new_attempt()
    summary = Summary.of(config.seed, records.values(), folder.summary)
    summary.status, summary.attempts = "running", attempt.number
    seconds_before = summary.seconds

    def ask_to_stop() -> None:
        folder.stop.touch()
        say(console, "stopping after the current step is finished and saved; repeat to end at once")

    # A validation has nothing to save.
    with raise_on_stop_signals(None if config.trainer.val_only else ask_to_stop) as ignore_further_signals:
        try:
            exit_code = _run(attempt, config, records, console, summary)
        except Stopped as stop:
            summary.status, exit_code = "interrupted", stop.exit_code
        except BaseException as error:
            summary.status, summary.error = "failed", f"{type(error).__name__}: {error}"
            raise
        finally:
            ignore_further_signals()
            summary.seconds = round(seconds_before + time.monotonic() - started, 1)
            try:
                processes.terminate_all(str(folder.path))
            finally:
                # Frees space for the next attempt if a full disk ended this one.
                store.clear_leftovers(folder.checkpoints)
                for problem in temporary_folder.remove(folder, attempt if summary.status == "failed" else None):
                    say(console, problem)
                summary.write(folder.summary)
                folder.stop.unlink(missing_ok=True)
    show_outcome(folder, summary, console)
    if summary.status in ("stopped", "interrupted") and not config.trainer.val_only:
        say(console, f"resume with: reinforcepp resume {folder.path}")
    return exit_code


def _run(attempt: Attempt, config: DictConfig, records: dict[int, Record], console: Console, summary: Summary) -> int:
    attempts.write_config(config, attempt)
    headline(config, attempt, console)
    summary.write(attempt.run.summary)
    metrics = MetricsFile(attempt.run.metrics, records)
    cut_at = math.inf if config.data.filter_overlong_prompts else config.data.max_prompt_length
    start = start_step(config)
    samples = SampleFiles(attempt.run.samples)
    samples.discard_after(start)
    shown = ShownSamples(samples, read_samples(config), on_terminal=console.is_terminal)
    screen = RunConsole(console, config.trainer.total_training_steps, start, cut_at, shown)
    return _set_outcome(attempts.follow(attempt, config, screen, summary, metrics), attempt, config, summary)


def _set_outcome(exit_code: int, attempt: Attempt, config: DictConfig, summary: Summary) -> int:
    """Set the summary's status; verl also exits normally if the epochs end before all steps are done."""
    wanted = 0 if config.trainer.val_only else config.trainer.total_training_steps or 0
    if exit_code != 0:
        summary.status, summary.error = "failed", failure_cause(attempt, exit_code)
        exit_code = EXIT_FAILED
    elif attempt.stopped.exists():
        summary.status, exit_code = "stopped", EXIT_STOPPED
    elif summary.steps < wanted:
        summary.status = "failed"
        summary.error = f"ended after {summary.steps} of {wanted} steps: raise {keys.TOTAL_EPOCHS}"
        exit_code = EXIT_FAILED
    else:
        summary.status = "finished"
    return exit_code
