"""Resumes a run in its folder: from its newest complete checkpoint, or from the start if it has none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from reinforcepp_verl.checkpoints import compatibility, store
from reinforcepp_verl.checkpoints.store import SavedCheckpoint
from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.common.terminal import say
from reinforcepp_verl.config import config_file, keys
from reinforcepp_verl.preflight import examine
from reinforcepp_verl.preflight.findings import PreflightWarning, show_warnings
from reinforcepp_verl.preflight.run_settings import CHECKPOINT_NODES
from reinforcepp_verl.report.run_records import Record, flatten, recorded, start_step
from reinforcepp_verl.report.validation_metric import validation_key
from reinforcepp_verl.runs import launch, saved_config
from reinforcepp_verl.runs.metrics_file import MetricsFile
from reinforcepp_verl.runs.progress import FINISHED, Progress, missing_checkpoints, progress
from reinforcepp_verl.runs.run_summary import Summary, read_summary
from reinforcepp_verl.runs.stop_signals import Stopped, raise_on_stop_signals

THIS_ATTEMPT_ONLY = keys.RAY_KWARGS
"""Where an attempt runs; overrides of it are not kept for the next attempt."""


class RunCompleteError(Exception):
    """All steps of the run are done."""


@dataclass
class PreparedAttempt:
    """An attempt that is ready to start."""

    run: RunFolder
    config: DictConfig
    records: dict[int, Record]
    notes: list[str] = field(default_factory=list)
    warnings: list[PreflightWarning] = field(default_factory=list)

    def start(self, console: Console) -> int:
        """Run it and return the exit code."""
        for note in self.notes:
            say(console, note)
        show_warnings(self.warnings)
        return launch.run_attempt(self.run, self.config, self.records, console)


def resume(folder: Path, overrides: Sequence[str], console: Console) -> int:
    """Run the next attempt of the run in `folder` and return the exit code.

    Raises:
        ValueError: there is no run, another command is running it, an override is wrong, or checkpoint and
            configuration do not match; one line per problem
    """
    run = RunFolder(folder.resolve())
    saved_config.find(run)
    _enter_directory(run)
    with launch.run_lock(run):
        try:
            with raise_on_stop_signals():
                for problem in (*launch.clear_killed(run), *launch.clear_evaluations(run)):
                    say(console, problem)
                if run.stop.exists():
                    say(console, f"{run.stop} already existed: removed")
                    run.stop.unlink(missing_ok=True)
                attempt = prepare(run, overrides)
        except Stopped as stop:
            say(console, f"stopped by {stop} before the start")
            return launch.EXIT_STOPPED
        except RunCompleteError as end:
            say(console, str(end))
            return 0
        return attempt.start(console)


def prepare(run: RunFolder, overrides: Sequence[str]) -> PreparedAttempt:
    """Find the checkpoint, compare it with the configuration, and set where the attempt starts.

    Raises:
        ValueError: see `resume`
        RunCompleteError: there is nothing to do
    """
    saved, ignored = store.newest_checkpoint(run.checkpoints)
    settings, file = saved_config.find(run)
    kept, config = _configs(run, settings, overrides, saved)
    warnings = _warnings(config)
    origin = start_step(kept)
    notes = [f"ignored: {reason}" for reason in ignored]
    if ignored and saved is None:
        ignored.append(
            f"{run.path} has no complete checkpoint: train a new run, from the beginning or from one that you trust "
            f"({keys.RESUME_MODE}=resume_path {keys.RESUME_FROM_PATH}={run.checkpoints}/global_step_N)"
        )
        raise ValueError("\n".join(ignored))
    if saved is not None:
        if found := compatibility.incompatibilities(saved, config):
            raise ValueError("\n".join(found))
        notes += [f"continues at step {saved.manifest.step} from {saved.path}", *_parts_not_restored(saved, config)]
        notes += [f"  changed since then: {change}" for change in compatibility.changed_settings(saved, config)]
        config.trainer.resume_mode, config.trainer.resume_from_path = "resume_path", str(saved.path)
    records = _records(run, start_step(config), saved)
    if missing := sorted(set(range(origin + 1, start_step(config) + 1)) - records.keys()):
        notes.append(f"  the metrics of {len(missing)} steps are lost, the first is step {missing[0]}")
    _set_validation(config, records, saved)
    done = progress(run, config.trainer.total_training_steps)
    _stop_if_done(run, config, saved, records, done)
    if saved is None:
        _refuse_to_start_again(run, done, origin)
    launch.save_config(kept, run)
    launch.save_warnings(warnings, run)
    if saved is None:
        notes.append(f"starts from the beginning: {run.path} has no checkpoint yet")
    return PreparedAttempt(run, config, records, [*_lost(run, file, done), *notes], warnings)


def _configs(
    run: RunFolder, settings: DictConfig, overrides: Sequence[str], saved: SavedCheckpoint | None
) -> tuple[DictConfig, DictConfig]:
    """Return the configuration to keep in the run folder, and that of the attempt."""
    try:
        kept = saved_config.with_references(settings)
        config = kept.copy()
        for override in overrides:
            saved_config.apply(override, config, saved_config.SET_BY_RESUME, command="resume")
            if not override.startswith(f"{THIS_ATTEMPT_ONLY}."):
                saved_config.apply(override, kept, saved_config.SET_BY_RESUME, command="resume")
        OmegaConf.resolve(config)
    except (OmegaConfBaseException, HydraException) as error:
        raise ValueError(
            f"{run.config} {' '.join(overrides)}: {' '.join(str(error).split())}; if another version of this package "
            "wrote the file, delete the key from it"
        ) from error
    if config.trainer.val_only:
        raise ValueError(f"{run.path} is an evaluation; repeat it with `reinforcepp eval`")
    if saved is not None:
        # The run has its own checkpoint, so where it once started from is not checked.
        config.trainer.resume_mode = "disable"
    return kept, config


def _warnings(config: DictConfig) -> list[PreflightWarning]:
    """Check the configuration and return the warnings.

    Raises:
        ValueError: there are errors
    """
    found = examine(config)
    if found.errors:
        raise ValueError("\n".join(" ".join(error.split()) for error in found.errors))
    return found.warnings


def _records(run: RunFolder, start: int, saved: SavedCheckpoint | None) -> dict[int, Record]:
    """Return the steps done before; the metrics of a step interrupted in its validation are in its checkpoint."""
    records = recorded(run, start)
    if saved is not None and (path := saved.path / store.METRICS_FILE).is_file():
        records[start] = flatten(path.read_bytes()) | records.get(start, {})
    return records


def _set_validation(config: DictConfig, records: dict[int, Record], saved: SavedCheckpoint | None) -> None:
    """Begin with the validation of the step that the attempt starts from, if it was due and not done."""
    trainer = config.trainer
    if saved is None:
        return
    step, last = saved.manifest.step, trainer.total_training_steps
    state = orjson.loads((saved.path / store.STATE_FILE).read_bytes())
    # Without a number of steps the epochs end the run, as the trainer knew when it saved.
    is_last = state[store.IS_LAST_STEP] if last is None else step >= last
    due = trainer.test_freq > 0 and bool(step % trainer.test_freq == 0 or is_last)
    trainer.val_before_train = due and validation_key(records.get(step, {})) is None


def _parts_not_restored(saved: SavedCheckpoint, config: DictConfig) -> list[str]:
    """Report which parts are missing in the checkpoint or are not loaded from it.

    Raises:
        ValueError: the weights are among them
    """
    before, notes = config_file.load(saved.path / store.CONFIG_FILE), []
    for node in CHECKPOINT_NODES:
        there = OmegaConf.select(before, node).save_contents
        taken = OmegaConf.select(config, node).load_contents
        missing = [part for part in ("model", "optimizer", "extra") if part not in there or part not in taken]
        if "model" in missing:
            raise ValueError(
                f"{node}.load_contents is {list(taken)} and {saved.path} has {list(there)}: a run cannot be resumed "
                f"without its weights; add model to {node}.load_contents"
            )
        if missing:
            notes.append(f"  {node}: {', '.join(missing)} not loaded from the checkpoint, so initialized again")
    return notes


def _enter_directory(run: RunFolder) -> None:
    """Change to the folder in which the run was started, for its relative paths, if it exists on this machine."""
    directory = read_summary(run.summary).get("directory")
    if isinstance(directory, str) and Path(directory).is_dir():
        os.chdir(directory)


def _mark_finished(run: RunFolder, config: DictConfig, records: dict[int, Record]) -> None:
    """Write metrics and summary of a run that was killed after its last step."""
    summary = Summary.of(config.seed, records.values(), run.summary)
    summary.status, summary.attempts = "finished", len(run.attempts())
    MetricsFile(run.metrics, records)
    summary.write(run.summary)


def _stop_if_done(
    run: RunFolder, config: DictConfig, saved: SavedCheckpoint | None, records: dict[int, Record], done: Progress
) -> None:
    wanted = config.trainer.total_training_steps
    if saved is not None:
        if wanted is None or saved.manifest.step < wanted or config.trainer.val_before_train:
            return
        _mark_finished(run, config, records)
    elif done.status != FINISHED or (wanted is not None and wanted > done.steps):
        return
    raise RunCompleteError(f"nothing left to do: {run.path} has done its {wanted or done.steps} steps")


def _refuse_to_start_again(run: RunFolder, done: Progress, origin: int) -> None:
    """Refuse a run without a checkpoint that has finished or must have saved one."""
    if missing := missing_checkpoints(run, done, origin):
        raise ValueError(missing)
    if done.status == FINISHED:
        raise ValueError(
            f"{run.path} finished with {done.steps} steps and has no checkpoint to resume from: set {keys.SAVE_FREQ} "
            "in a new run"
        )


def _lost(run: RunFolder, file: Path, done: Progress) -> list[str]:
    """Report which files of the run are lost, and what is used in their place."""
    notes = []
    if file != run.config:
        notes.append(f"{run.config} is missing or damaged: the settings of {file} are used")
    if done.lost_summary is not None:
        notes.append(f"{done.lost_summary} is missing or damaged: it is rewritten from the metrics")
    return notes
