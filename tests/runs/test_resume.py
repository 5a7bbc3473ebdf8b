"""The run folder after `reinforcepp create`, and what `reinforcepp resume` does with it before anything starts."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from rich.console import Console
from typer.testing import CliRunner

from reinforcepp_verl.checkpoints import compatibility, manifest, store
from reinforcepp_verl.checkpoints.manifest import Manifest
from reinforcepp_verl.cli import app
from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.preflight import start_checkpoint as preflight
from reinforcepp_verl.runs import launch, resume_run
from reinforcepp_verl.runs.resume_run import RunCompleteError, prepare

RECIPE = "+recipe=math_rlvr/arithmetic"
VAL = "val-core/reinforcepp/arithmetic/acc/mean@1"


@pytest.fixture
def run(compose, arithmetic, tmp_path, monkeypatch):
    """Return the folder of a run that has not started."""
    monkeypatch.chdir(arithmetic)
    return launch.new_run(compose(RECIPE, f"runs_dir={tmp_path}", "trainer.save_freq=15"))


def attempt(run, *steps, val_at=()):
    """Create an attempt that began at step 0, with these steps recorded."""
    made = run.new_attempt()
    made.config.write_text("trainer: {resume_mode: disable}\n")
    records = [{"step": step, "data": {"a": step, **({VAL: 0.5} if step in val_at else {})}} for step in steps]
    made.tracker.write_text("".join(json.dumps(record) + "\n" for record in records))


def checkpoint(run, step, metrics=None, is_last=False):
    folder = store.begin_save(run.checkpoints, "attempt_1") / store.folder_name(step)
    folder.mkdir()
    shutil.copy(run.config, folder / store.CONFIG_FILE)
    (folder / store.STATE_FILE).write_text(json.dumps({store.IS_LAST_STEP: is_last}))
    if metrics is not None:
        (folder / store.METRICS_FILE).write_text(json.dumps({"step": step, "data": metrics}))
    files, data = manifest.describe_files(folder), compatibility.data_digests(OmegaConf.load(run.config))
    return store.commit_save(folder, run.checkpoints, Manifest(step, 1, 1, data, {}, files))


def test_a_created_run_starts_from_the_beginning(run):
    continuation = prepare(run, [])
    assert json.loads(run.summary.read_text())["status"] == "created"
    assert (continuation.records, continuation.config.trainer.resume_mode) == ({}, "auto")
    assert continuation.config.trainer.val_before_train
    assert continuation.notes == [f"starts from the beginning: {run.path} has no checkpoint yet"]


def test_a_run_without_a_checkpoint_starts_from_the_beginning_even_after_steps(run):
    attempt(run, 0, 1, 2)
    assert prepare(run, []).records == {0: {"step": 0, "a": 0}}


def test_it_resumes_from_the_newest_checkpoint_with_the_metrics_up_to_it(run):
    attempt(run, *range(33), val_at=(0, 15, 30))
    path = [checkpoint(run, step) for step in (15, 30)][-1]
    continuation = prepare(run, [])
    trainer = continuation.config.trainer
    assert (trainer.resume_mode, trainer.resume_from_path) == ("resume_path", str(path))
    assert not trainer.val_before_train
    assert list(continuation.records) == list(range(31))
    assert continuation.notes == [f"continues at step 30 from {path}"]


def test_an_interrupted_validation_is_repeated(run):
    attempt(run, *range(15), val_at=(0,))
    checkpoint(run, 15, metrics={"a": 15})
    continuation = prepare(run, [])
    assert continuation.config.trainer.val_before_train
    assert continuation.records[15] == {"step": 15, "a": 15}


def test_lost_metrics_are_reported_and_do_not_prevent_a_resume(run):
    checkpoint(run, 15)
    assert prepare(run, []).notes[-1] == "  the metrics of 15 steps are lost, the first is step 1"


def test_an_incomplete_checkpoint_is_ignored_and_named(run):
    attempt(run, *range(33), val_at=(0, 15, 30))
    checkpoint(run, 15)
    (checkpoint(run, 30) / "COMPLETE").unlink()
    continuation = prepare(run, [])
    assert (
        continuation.notes[0].startswith("ignored: ") and "global_step_30: no COMPLETE marker" in continuation.notes[0]
    )
    assert list(continuation.records) == list(range(16))


def test_a_run_with_only_incomplete_checkpoints_is_not_taken_for_a_new_run(run):
    (checkpoint(run, 15) / "COMPLETE").unlink()
    with pytest.raises(ValueError, match=r"no complete checkpoint: start a new run .* or delete .*/checkpoints to"):
        prepare(run, [])


def test_changes_are_reported_and_kept_except_those_of_the_machine(run):
    attempt(run, *range(16), val_at=(0, 15))
    checkpoint(run, 15)
    overrides = ["trainer.total_training_steps=80", "ray_kwargs.ray_init.address=host:6379"]
    continuation = prepare(run, overrides)
    assert continuation.notes[1:] == ["  changed since then: trainer.total_training_steps: 60 -> 80"]
    assert continuation.config.ray_kwargs.ray_init.address == "host:6379"
    kept = OmegaConf.load(run.config)
    assert (kept.trainer.total_training_steps, kept.ray_kwargs.ray_init.address) == (80, "local")
    assert (kept.trainer.resume_mode, kept.trainer.default_local_dir) == ("auto", None)


def test_a_finished_run_has_nothing_left_unless_steps_are_added(run):
    attempt(run, *range(61), val_at=(0, 60))
    checkpoint(run, 60)
    with pytest.raises(RunCompleteError, match="has done its 60 steps"):
        prepare(run, [])
    assert prepare(run, ["trainer.total_training_steps=61"]).config.trainer.total_training_steps == 61


@pytest.mark.parametrize("is_last", [True, False])
def test_the_validation_of_the_last_step_is_repeated_if_epochs_determine_that_step(run, is_last):
    attempt(run, *range(26), val_at=(0,))
    checkpoint(run, 25, is_last=is_last)
    overrides = ["trainer.total_training_steps=null", "trainer.test_freq=10"]
    assert prepare(run, overrides).config.trainer.val_before_train == is_last


def test_a_signal_during_the_check_of_the_checkpoint_stops_the_run_like_any_other(run, monkeypatch):
    monkeypatch.setattr(resume_run, "prepare", lambda run, overrides: os.kill(os.getpid(), signal.SIGUSR1))
    assert resume_run.resume(run.path, [], Console(file=io.StringIO())) == 75


@pytest.mark.parametrize("name", ["config.yaml", "summary.json"])
def test_a_corrupt_file_of_the_run_is_named(run, name):
    (run.path / name).write_text("{a: [")
    with pytest.raises(ValueError, match=f"{name}(: |, line 1: )"):
        resume_run.resume(run.path, [], Console(file=io.StringIO()))


def test_records_missing_after_a_kill_at_the_last_step_are_added(run):
    attempt(run, *range(61), val_at=(0, 60))
    checkpoint(run, 60)
    run.metrics.write_text('{"step": 1, "a": 1}\n')
    with pytest.raises(RunCompleteError):
        prepare(run, [])
    assert [json.loads(line)["step"] for line in run.metrics.read_text().splitlines()] == list(range(61))
    summary = json.loads(run.summary.read_text())
    assert (summary["status"], summary["steps"], summary["attempts"]) == ("finished", 60, 1)


def test_the_metrics_of_a_step_outlive_two_kills_around_its_validation(run):
    attempt(run, *range(15), val_at=(0,))
    path = checkpoint(run, 15, metrics={"a": 15})
    again = run.new_attempt()
    again.config.write_text(f"trainer: {{resume_mode: resume_path, resume_from_path: {path}}}\n")
    again.tracker.write_text(json.dumps({"step": 15, "data": {VAL: 0.5}}) + "\n")
    continuation = prepare(run, [])
    assert continuation.records[15] == {"step": 15, "a": 15, VAL: 0.5}
    assert not continuation.config.trainer.val_before_train


def test_a_fork_does_not_need_its_parent(run, compose, tmp_path):
    parent = checkpoint(run, 15)
    fork = launch.new_run(
        compose(RECIPE, f"runs_dir={tmp_path}", "trainer.resume_mode=resume_path", f"trainer.resume_from_path={parent}")
    )
    own = checkpoint(fork, 30)
    shutil.rmtree(parent)
    continuation = prepare(fork, [])
    assert continuation.config.trainer.resume_from_path == str(own)
    assert continuation.notes[-1] == "  the metrics of 15 steps are lost, the first is step 16"


def test_a_finished_run_without_a_checkpoint_is_not_repeated(run):
    attempt(run, *range(61))
    run.summary.write_text(json.dumps({"status": "finished", "steps": 60}))
    with pytest.raises(RunCompleteError):
        prepare(run, [])
    with pytest.raises(ValueError, match="has no checkpoint to resume from: set trainer.save_freq"):
        prepare(run, ["trainer.total_training_steps=61"])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.train_batch_size=48", "data.train_batch_size is 48"),
        ("trainer.n_gpus_per_node=2", "has 1 shards, which need as many workers"),
        ("trainer.total_training_stepz=3", "did you mean trainer.total_training_steps?"),
        ("trainer.resume_mode=auto", "resume sets trainer.resume_mode itself"),
        ("nonsense", "write key=value"),
        ("actor_rollout_ref.actor.checkpoint.load_contents=[optimizer]", "cannot be resumed without its weights"),
    ],
)
def test_a_wrong_override_is_refused_and_not_kept(run, override, words):
    attempt(run, *range(16), val_at=(0, 15))
    checkpoint(run, 15)
    before = run.config.read_text()
    with pytest.raises(ValueError) as refused:
        prepare(run, [override])
    assert words in str(refused.value) and run.config.read_text() == before


def test_an_override_may_have_the_plus_of_hydra(run):
    attempt(run, *range(16), val_at=(0, 15))
    checkpoint(run, 15)
    assert prepare(run, ["+trainer.total_training_steps=70"]).config.trainer.total_training_steps == 70


def test_errors_of_the_command_are_one_line(run, tmp_path):
    runner = CliRunner()
    done = runner.invoke(app, ["resume", str(tmp_path / "nope")])
    assert done.exit_code == 2 and "no config.yaml; give the folder of a run" in done.output
    with launch.run_lock(run):
        done = runner.invoke(app, ["resume", str(run.path)])
    assert done.exit_code == 2 and f"another command is running it; to stop it: touch {run.stop}" in done.output
    attempt(run, *range(61), val_at=(0, 60))
    checkpoint(run, 60)
    done = runner.invoke(app, ["resume", str(run.path)])
    assert done.exit_code == 0 and "nothing left to do" in done.output


def test_relative_paths_are_relative_to_the_folder_of_the_start(run, arithmetic, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    attempt(run, *range(61), val_at=(0, 60))
    with monkeypatch.context() as there:
        there.chdir(arithmetic)
        checkpoint(run, 60)
    done = CliRunner().invoke(app, ["resume", str(run.path)])
    assert done.exit_code == 0 and "nothing left to do" in done.output


def test_a_new_run_from_a_checkpoint_is_compared_with_it(run, compose, tmp_path):
    path = checkpoint(run, 15)
    fork = [RECIPE, "trainer.resume_mode=resume_path", f"trainer.resume_from_path={path}"]
    assert preflight.check(compose(*fork)) == []
    (line,) = preflight.check(compose(*fork, "data.train_batch_size=48"))
    assert "data.train_batch_size is 48" in line
    (path / "config.yaml").write_text("changed: true\n")
    (line,) = preflight.check(compose(*fork))
    assert "trainer.resume_from_path: " in line and "choose another checkpoint" in line
    (line,) = preflight.check(compose(*fork[:2], f"trainer.resume_from_path={tmp_path}/nope"))
    assert "set it to a folder RUN/checkpoints/global_step_N" in line


def test_create_prints_the_folder_and_nothing_else(arithmetic, tmp_path, monkeypatch):
    command = Path(sys.executable).with_name("reinforcepp")
    done = subprocess.run(
        [command, "create", RECIPE, f"runs_dir={tmp_path}"], cwd=arithmetic, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    folder = RunFolder(Path(done.stdout.strip()))
    assert done.stdout.count("\n") == 1 and folder.config.is_file() and folder.attempts() == []
