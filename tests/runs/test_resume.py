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
from reinforcepp_verl.runs.attempt import write_config
from reinforcepp_verl.runs.resume_run import RunCompleteError, prepare
from reinforcepp_verl.runs.run_summary import Summary

RECIPE = "+recipe=math_rlvr/arithmetic"
DAMAGED = [b"", b"{a: [", b"\x00\xff\xfe", b"- 1\n", b"data: {}\n"]
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
    with pytest.raises(ValueError, match=r"no complete checkpoint: train a new run, from the beginning or from one"):
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


@pytest.mark.parametrize("content", DAMAGED)
def test_a_corrupt_configuration_of_a_run_that_has_not_started_is_named(run, content):
    run.config.write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.yaml(: |, line \d+: )") as error:
        resume_run.resume(run.path, [], Console(file=io.StringIO()))
    assert "\n" not in str(error.value)


def has_done(run, steps, save_freq=15, **summary):
    """Create what is left of attempts: one of `steps` steps, with the configuration that a real one has."""
    made = run.new_attempt()
    config = OmegaConf.load(run.config)
    config.trainer.save_freq = save_freq
    write_config(config, made)
    lines = [json.dumps({"step": step, "data": {"a": step}}) + "\n" for step in range(1, steps + 1)]
    made.tracker.write_text("".join(lines))
    run.summary.write_text(json.dumps({"status": "running", "steps": steps, **summary}))


@pytest.mark.parametrize("content", [*DAMAGED, None])
def test_the_configuration_of_an_attempt_takes_the_place_of_a_lost_one(run, content):
    before = OmegaConf.load(run.config)
    has_done(run, 16)
    checkpoint(run, 15)
    again = run.new_attempt()
    changed = before.copy()
    changed.trainer.resume_mode, changed.trainer.resume_from_path = "resume_path", f"{run.checkpoints}/global_step_15"
    changed.trainer.val_before_train, changed.trainer.save_freq = False, 5
    write_config(changed, again)
    run.config.unlink() if content is None else run.config.write_bytes(content)
    continuation = prepare(run, [])
    assert continuation.notes[0] == f"{run.config} is missing or damaged: the settings of {again.config} are used"
    kept = OmegaConf.load(run.config)
    before.trainer.save_freq, before.trainer.logger = 5, kept.trainer.logger
    before.ray_kwargs.ray_init.runtime_env.env_vars = kept.ray_kwargs.ray_init.runtime_env.env_vars
    assert kept == before and not kept.ray_kwargs.ray_init.runtime_env.env_vars
    assert prepare(run, []).notes[0].startswith("continues at step 15")


def test_a_configuration_that_was_cut_off_between_two_nodes_is_not_taken_for_a_whole_one(run):
    has_done(run, 16)
    checkpoint(run, 15)
    lines = run.config.read_text().splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if not line.startswith((" ", "-")))
    run.config.write_text("".join(lines[:last]))
    assert "missing or damaged: the settings of" in prepare(run, []).notes[0]


@pytest.mark.parametrize("content", [b"", b'{"status": "fin', b"\x00\xff", b"[]", b'{"status": 1, "steps": "x"}', None])
def test_a_lost_summary_is_written_anew(run, content):
    has_done(run, 16)
    checkpoint(run, 15)
    run.summary.unlink() if content is None else run.summary.write_bytes(content)
    continuation = prepare(run, [])
    assert continuation.notes[0] == f"{run.summary} is missing or damaged: it is rewritten from the metrics"
    assert (Summary.of(1, continuation.records.values(), run.summary).steps, len(continuation.records)) == (15, 15)


def test_that_a_run_has_finished_is_known_without_its_summary(run):
    has_done(run, 60, save_freq=-1)
    run.summary.write_bytes(b"")
    with pytest.raises(RunCompleteError, match="has done its 60 steps"):
        prepare(run, [])


@pytest.mark.parametrize("content", [b"\x00\xff\n" * 9, b'{"step": 1}\n[]\n{"a": 1}\n', b""])
@pytest.mark.parametrize("name", ["metrics.jsonl", "attempt_1/verl_metrics.jsonl"])
def test_metrics_that_one_file_has_lost_come_from_the_other(run, name, content):
    has_done(run, 16)
    checkpoint(run, 15)
    run.metrics.write_text("".join(json.dumps({"step": step, "a": step}) + "\n" for step in range(1, 17)))
    (run.path / name).write_bytes(content)
    continuation = prepare(run, [])
    assert continuation.records == {step: {"step": step, "a": step} for step in range(1, 16)}
    assert len(continuation.notes) == 1


def no_folder(run):
    shutil.rmtree(run.checkpoints, ignore_errors=True)


def empty_folder(run):
    no_folder(run)
    run.checkpoints.mkdir()


def dangling_link(run):
    no_folder(run)
    run.checkpoints.symlink_to("/nonexistent/disk")


@pytest.mark.parametrize("lose", [no_folder, empty_folder, dangling_link])
@pytest.mark.parametrize("summary", [{}, {"status": "stopped", "steps": 7}, {"status": "failed", "steps": 59}])
def test_checkpoints_on_a_disk_that_is_not_mounted_are_refused(run, lose, summary):
    has_done(run, **{"steps": 33, **summary})
    lose(run)
    before = run.metrics.exists(), run.config.read_bytes()
    with pytest.raises(ValueError, match=r"checkpoints has no checkpoint, although .*: is the disk mounted\? Restore"):
        prepare(run, [])
    assert (run.metrics.exists(), run.config.read_bytes()) == before


def test_a_lost_summary_does_not_hide_lost_checkpoints(run):
    has_done(run, 33)
    run.summary.unlink()
    with pytest.raises(ValueError, match="is the disk mounted"):
        prepare(run, [])


@pytest.mark.parametrize(
    ("steps", "save_freq", "lose"), [(14, 15, no_folder), (15, 15, empty_folder), (33, -1, no_folder)]
)
def test_a_run_that_cannot_have_saved_starts_again(run, steps, save_freq, lose):
    has_done(run, steps, save_freq)
    lose(run)
    assert prepare(run, []).notes == [f"starts from the beginning: {run.path} has no checkpoint yet"]


def test_a_checkpoint_of_another_step_is_ignored(run):
    has_done(run, 33)
    checkpoint(run, 15)
    checkpoint(run, 30).rename(run.checkpoints / "global_step_45")
    continuation = prepare(run, [])
    assert "global_step_45/manifest.json is that of global_step_30: the folder was renamed" in continuation.notes[0]
    assert continuation.config.trainer.resume_from_path.endswith("global_step_15")


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
    has_done(run, 60, save_freq=-1, status="finished")
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
