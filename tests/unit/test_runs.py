"""The run folder, the metrics follower, the summary, the console row and the explanation of a failure."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from reinforcepp_verl.runs import processes
from reinforcepp_verl.runs.console import COLUMNS, header, row
from reinforcepp_verl.runs.failure import explain
from reinforcepp_verl.runs.folder import create
from reinforcepp_verl.runs.metrics import MetricsFollower, mean_of_sources
from reinforcepp_verl.runs.summary import Summary
from reinforcepp_verl.runs.worker import describe

VAL = "val-core/reinforcepp/arithmetic/acc/mean@1"


def test_runs_of_the_same_second_get_different_folders_and_latest_points_to_the_newest(tmp_path):
    folders = [create(tmp_path, "same name/with slash") for _ in range(3)]
    assert len({folder.path for folder in folders}) == 3
    assert all(folder.path.parent == tmp_path for folder in folders)
    assert (tmp_path / "latest").resolve() == folders[-1].path


def test_latest_that_is_a_real_folder_is_not_destroyed(tmp_path):
    (tmp_path / "latest").mkdir()
    (tmp_path / "latest" / "precious").touch()
    with pytest.raises(OSError):
        create(tmp_path, "run")
    assert (tmp_path / "latest" / "precious").exists()


def test_follower_flattens_complete_lines_and_waits_for_the_rest(tmp_path):
    tracker, metrics = tmp_path / "tracker.jsonl", tmp_path / "metrics.jsonl"
    follower = MetricsFollower(tracker, metrics)
    assert list(follower.new_records()) == []
    first, second = ({"step": step, "data": {"actor/lr": 0.5 * step}} for step in (1, 2))
    half = json.dumps(second)[:10]
    tracker.write_text(json.dumps(first) + "\n" + half)
    assert list(follower.new_records()) == [{"step": 1, "actor/lr": 0.5}]
    with tracker.open("a") as stream:
        stream.write(json.dumps(second)[10:] + "\n")
    assert list(follower.new_records()) == [{"step": 2, "actor/lr": 1.0}]
    assert [json.loads(line)["step"] for line in metrics.read_text().splitlines()] == [1, 2]
    follower.close()


def test_several_data_sources_have_a_mean_and_one_has_none():
    two = {"val-core/openai/gsm8k/acc/mean@4": 0.5, "val-core/aime24/acc/mean@4": 0.25}
    found = mean_of_sources({**two, "val-core/aime24/acc/best@4/mean": 1.0})
    assert found == {"val-core/mean_of_sources/acc/mean@4": 0.375}
    assert mean_of_sources({"val-core/aime24/acc/mean@4": 0.25, "actor/lr": 1.0}) == {}


def test_summary_of_a_run(tmp_path):
    summary = Summary(seed=7)
    summary.add({"step": 0, VAL: 0.25})
    for step, seconds in ((1, 4.0), (2, 2.0), (3, 3.0)):
        summary.add({"step": step, "timing_s/step": seconds})
    summary.add({"step": 4, "timing_s/step": 3.0, VAL: 0.75})
    summary.write(tmp_path / "summary.json")
    written = json.loads((tmp_path / "summary.json").read_text())
    expected = {"seed": 7, "steps": 4, "initial_val": 0.25, "final_val": 0.75, "step_seconds_median": 3.0}
    assert expected.items() <= written.items()
    assert not any(name.startswith("_") for name in written)


def test_a_resumed_run_has_no_value_from_before_training():
    summary = Summary(seed=1)
    summary.add({"step": 20, VAL: 0.5})
    assert summary.initial_val is None
    assert summary.final_val == 0.5


def test_row_aligns_with_the_header_and_shows_dashes_for_what_is_missing():
    record = {"step": 3, "critic/score/mean": 0.5, VAL: 0.625, "actor/kl_loss": 0.001, "timing_s/step": 2.0}
    assert len(row(record)) == len(header()) == sum(width for _, width, _, _ in COLUMNS)
    assert row(record).split() == ["3", "0.500", "0.625", "0.00100", "-", "-", "-", "-", "2.00"]


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("noise\n(TaskRunner pid=1) ValueError: too short\nmore noise\n", "ValueError: too short"),
        ("noise only\n", "exit code 9 and no Python error"),
        ("x vllm.v1.engine.exceptions.EngineDeadError: y\n", "the vLLM engine died during the run (EngineDeadError)"),
        ("vLLM engine vllm_server_0_0 has not been healthy for 30 s: y; ending\n", "not been healthy for 30 s: y"),
    ],
)
def test_failure_is_explained_from_the_log(tmp_path, log, expected):
    folder = create(tmp_path, "run")
    folder.log.write_text(log)
    assert expected in explain(folder, 9)


def test_the_workers_own_note_comes_before_the_log_and_is_cut_to_two_lines(tmp_path):
    folder = create(tmp_path, "run")
    folder.log.write_text("ValueError: something earlier\n")
    folder.failure.write_text("RuntimeError: first\n\nsecond\nthird\n")
    assert explain(folder, 1) == "RuntimeError: first\nsecond"


def test_an_engine_that_dies_because_the_run_ends_is_not_taken_for_the_cause(tmp_path):
    folder = create(tmp_path, "run")
    folder.log.write_text("EngineDeadError: torn down\n")
    folder.failure.write_text("AssertionError: batch does not divide\n")
    assert explain(folder, 1) == "AssertionError: batch does not divide"


def test_failed_rollouts_are_explained_with_what_failed_in_them(tmp_path):
    folder = create(tmp_path, "run")
    folder.log.write_text("(Worker pid=1) RuntimeError: no verdict\n(Task pid=2) x.FailedRolloutError: 3 of 4\n")
    folder.failure.write_text("FailedRolloutError: 3 of 4 groups failed\n")
    assert explain(folder, 1) == "FailedRolloutError: 3 of 4 groups failed\nRuntimeError: no verdict"


def test_describe_unwraps_to_the_cause():
    try:
        try:
            raise KeyError("root")
        except KeyError as error:
            raise RuntimeError("wrapper") from error
    except RuntimeError as error:
        assert describe(error) == "KeyError: 'root'"


STOPPED_TWICE = """
import os, signal, sys, time
from reinforcepp_verl.runs.signals import Stopped, stopping_signals_raise
with stopping_signals_raise() as ignore_further_signals:
    try:
        os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(9)
    except Stopped as stop:
        ignore_further_signals()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)
        print("cleaned up", flush=True)
        sys.exit(stop.exit_code)
"""


@pytest.mark.parametrize(("number", "exit_code"), [(2, 130), (15, 143), (1, 129)])
def test_a_second_signal_does_not_disturb_the_clean_up(number, exit_code):
    done = subprocess.run([sys.executable, "-c", STOPPED_TWICE, str(number)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (exit_code, "cleaned up\n")


def test_every_process_with_the_mark_is_ended_even_a_daemon_that_ignores_sigterm(tmp_path):
    stubborn = "import signal as s, time; s.signal(s.SIGTERM, s.SIG_IGN); print('up', flush=True); time.sleep(99)"
    environment = {**os.environ, processes.MARK: str(tmp_path)}
    child = subprocess.Popen(
        [sys.executable, "-c", stubborn], env=environment, start_new_session=True, stdout=subprocess.PIPE
    )
    assert child.stdout is not None and child.stdout.readline() == b"up\n"
    unmarked = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"])
    try:
        assert [process.pid for process in processes.of_run(str(tmp_path))] == [child.pid]
        assert processes.end_all(str(tmp_path), grace_s=0.5) == 1
        child.wait(5)
        assert unmarked.poll() is None
    finally:
        unmarked.kill()
        unmarked.wait()
    assert processes.of_run(str(tmp_path)) == []
