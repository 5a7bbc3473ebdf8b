"""The run folder, the metrics follower, the summary, the console row and the explanation of a failure."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from reinforcepp_verl.common.run_folder import create
from reinforcepp_verl.report.run_records import flatten, mean_of_sources, recorded
from reinforcepp_verl.runs import processes
from reinforcepp_verl.runs.failure_cause import failure_cause
from reinforcepp_verl.runs.metrics_file import MetricsFile, MetricsFollower
from reinforcepp_verl.runs.run_console import METRIC_COLUMNS, header, row, show_outcome
from reinforcepp_verl.runs.run_summary import Summary
from reinforcepp_verl.runs.stop_signals import Stopped, raise_on_stop_signals
from reinforcepp_verl.runs.training_process import describe

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
    follower = MetricsFollower(tracker, MetricsFile(metrics, {}))
    assert list(follower.new_records()) == []
    first, second = ({"step": step, "data": {"actor/lr": 0.5 * step}} for step in (1, 2))
    half = json.dumps(second)[:10]
    tracker.write_text(json.dumps(first) + "\n" + half)
    assert list(follower.new_records()) == [{"step": 1, "actor/lr": 0.5}]
    with tracker.open("a") as stream:
        stream.write(json.dumps(second)[10:] + "\n")
    assert list(follower.new_records()) == [{"step": 2, "actor/lr": 1.0}]
    assert [json.loads(line)["step"] for line in metrics.read_text().splitlines()] == [1, 2]


def test_follower_goes_on_after_a_damaged_line(tmp_path):
    tracker, metrics = tmp_path / "tracker.jsonl", tmp_path / "metrics.jsonl"
    whole = [json.dumps({"step": step, "data": {}}) for step in (1, 2)]
    tracker.write_bytes("\n".join([whole[0], '{"step": 1, "da', "[]", "\x00" * 9, whole[1], ""]).encode())
    assert [record["step"] for record in MetricsFollower(tracker, MetricsFile(metrics, {})).new_records()] == [1, 2]


def write_attempt(run, start, *records, cut_off=""):
    attempt = run.new_attempt()
    where = f"resume_path, resume_from_path: {run.checkpoints}/global_step_{start}" if start else "auto"
    attempt.config.write_text(f"trainer: {{resume_mode: {where}}}\n")
    lines = [json.dumps({"step": step, "data": data}) + "\n" for step, data in records]
    attempt.tracker.write_text("".join(lines) + cut_off)


def test_every_step_counts_once_even_if_attempts_repeated_it(tmp_path):
    run = create(tmp_path, "run")
    write_attempt(run, 0, (0, {VAL: 0.1}), (1, {"a": 1}), (2, {"a": 2, VAL: 0.2}), (3, {"a": 3}), cut_off='{"step": 4')
    write_attempt(run, 2, (3, {"a": 30}), (4, {"a": 40}))
    write_attempt(run, 4, (4, {VAL: 0.4}), (5, {"a": 50}))
    expected = {
        0: {"step": 0, VAL: 0.1},
        1: {"step": 1, "a": 1},
        2: {"step": 2, "a": 2, VAL: 0.2},
        3: {"step": 3, "a": 30},
        4: {"step": 4, "a": 40, VAL: 0.4},
        5: {"step": 5, "a": 50},
    }
    assert recorded(run) == expected
    assert recorded(run, 3) == {step: expected[step] for step in range(4)}


def test_steps_of_attempts_whose_folders_are_gone_are_kept(tmp_path):
    run = create(tmp_path, "run")
    run.metrics.write_text('{"step": 1, "a": 1}\n{"step": 2, "a": 2, "b": 2}\n{"step": 3, "a"')
    write_attempt(run, 1, (2, {"a": 20}))
    assert recorded(run, 2) == {1: {"step": 1, "a": 1}, 2: {"step": 2, "a": 20, "b": 2}}


def test_a_line_truncated_by_a_full_disk_loses_only_its_step(tmp_path):
    run = create(tmp_path, "run")
    write_attempt(run, 0, (1, {"a": 1}))
    tracker = run.attempts()[0].tracker
    tracker.write_text(tracker.read_text() + '{"step": 2, "da{"step": 3, "data": {}}\n{"step": 4, "data": {"a": 4}}\n')
    assert recorded(run) == {1: {"step": 1, "a": 1}, 4: {"step": 4, "a": 4}}


HUNG_UP = """
import pty, os, signal, sys, time
child, terminal = pty.fork()
if child == 0:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    from rich.console import Console
    from reinforcepp_verl.runs.stop_signals import Stopped, raise_on_stop_signals
    console, asked, result = Console(), [], sys.argv[1]
    with raise_on_stop_signals(lambda: asked.append(1)):
        print("ready", flush=True)
        end = time.monotonic() + 20
        while not asked and time.monotonic() < end:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGHUP)
        console.print("a row")
    open(result, "w").write(f"asked {len(asked)}")
    os._exit(0)
text = b""
while b"ready" not in text:
    text += os.read(terminal, 100)
os.close(terminal)
os.waitpid(child, 0)
"""


def test_a_closed_terminal_requests_a_stop_once_and_prints_no_more_rows(tmp_path):
    subprocess.run([sys.executable, "-c", HUNG_UP, tmp_path / "result"], check=True, timeout=60)
    assert (tmp_path / "result").read_text() == "asked 1"


NO_HANG_UP = """
import os, signal
from reinforcepp_verl.runs.stop_signals import raise_on_stop_signals
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with raise_on_stop_signals(lambda: print("asked")):
    os.kill(os.getpid(), signal.SIGHUP)
"""


def test_under_nohup_a_closed_terminal_is_ignored():
    done = subprocess.run([sys.executable, "-c", NO_HANG_UP], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == ""


NO_READER = """
import os, sys
from reinforcepp_verl.common.terminal import PipeSafeConsole, say
console = PipeSafeConsole()
say(console, "first")
sys.stdin.readline()
say(console, "second")
print("third", flush=True)
open(sys.argv[1], "w").write("went on")
"""


def test_a_run_continues_after_its_reader_closes_the_pipe(tmp_path):
    command = [sys.executable, "-c", NO_READER, tmp_path / "result"]
    pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
    process = subprocess.Popen(command, **pipes, text=True)
    assert process.stdout.readline() == "first\n"
    process.stdout.close()
    process.stdin.write("\n")
    process.stdin.close()
    assert process.wait(60) == 0, process.stderr.read()
    assert (tmp_path / "result").read_text() == "went on"


def test_a_curve_that_cannot_be_drawn_does_not_change_how_a_run_ended(tmp_path, capsys):
    run = create(tmp_path, "run")
    run.metrics.write_text('{"step": 1, "critic/score/mean": 0.5}\n')
    run.curves.mkdir()
    show_outcome(run, Summary(seed=1, status="finished", steps=1), Console())
    assert "no curves: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ((0.25, 0.75), "validation 0.250 -> 0.750"),
        ((0.25, 0.875, 0.75), "validation 0.250 -> 0.750 (best 0.875 at step 1)"),
        ((0.5, 0.25, float("nan"), 0.25), "validation 0.500 -> 0.250 (best 0.500 at step 0)"),
    ],
)
def test_the_outcome_names_the_best_validation(tmp_path, capsys, values, says):
    summary = Summary(seed=1, status="finished")
    for step, accuracy in enumerate(values):
        summary.add({"step": step, VAL: accuracy})
    show_outcome(create(tmp_path, "run"), summary, Console(width=200))
    assert capsys.readouterr().out.splitlines()[0].endswith(f" s, {says}")


def test_a_validation_metric_that_is_nan_is_left_out_of_the_mean():
    data = {f"val-core/{source}/acc/mean@1": value for source, value in {"a": None, "b": 0.5, "c": 1.0}.items()}
    record = flatten(json.dumps({"step": 1, "data": data}).encode())
    assert record["val-core/mean_of_sources/acc/mean@1"] == 0.75


def test_an_attempt_without_a_checkpoint_starts_the_record_again(tmp_path):
    run = create(tmp_path, "run")
    write_attempt(run, 0, (0, {VAL: 0.1}), (1, {"a": 1}))
    write_attempt(run, 0, (0, {VAL: 0.1}))
    assert recorded(run) == {0: {"step": 0, VAL: 0.1}}
    assert recorded(run, 0) == {0: {"step": 0, VAL: 0.1}}


def test_a_validation_that_follows_later_joins_its_step_in_the_file(tmp_path):
    file = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(file, {4: {"step": 4, "a": 40}})
    metrics.add({"step": 4, VAL: 0.5})
    metrics.add({"step": 5, "a": 50})
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines == [{"step": 4, "a": 40, VAL: 0.5}, {"step": 5, "a": 50}]


def test_an_earlier_step_is_extended_in_place(tmp_path):
    file = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(file, {4: {"step": 4, "a": 40}, 5: {"step": 5, "a": 50}})
    metrics.add({"step": 4, VAL: 0.5})
    metrics.add({"step": 6, "a": 60})
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert lines == [{"step": 4, "a": 40, VAL: 0.5}, {"step": 5, "a": 50}, {"step": 6, "a": 60}]


@pytest.mark.parametrize("lost", ["validation", "last step", "middle step", "damaged line", "nothing"])
def test_what_metrics_jsonl_has_lost_is_read_from_the_attempts(tmp_path, lost):
    run = create(tmp_path, "run")
    steps = [{"step": step, "a": 10 * step} for step in (1, 2, 3)]
    steps[2][VAL] = 0.5
    write_attempt(run, 0, *((record["step"], {k: v for k, v in record.items() if k != "step"}) for record in steps))
    lines = [json.dumps(record) for record in steps]
    if lost == "validation":
        lines[2] = json.dumps({"step": 3, "a": 30})
    elif lost == "damaged line":
        lines[1] = lines[1][:9]
    elif lost != "nothing":
        del lines[1 if lost == "middle step" else 2]
    run.metrics.write_text("".join(f"{line}\n" for line in lines))
    assert recorded(run) == {record["step"]: record for record in steps}
    assert recorded(run, wanted=lambda name: name == "a")[3] == {"step": 3, "a": 30}


def test_an_attempt_that_ended_before_it_wrote_anything_hides_no_step(tmp_path):
    run = create(tmp_path, "run")
    write_attempt(run, 0, *((step, {"a": step}) for step in (1, 2, 3)))
    run.metrics.write_text("".join(json.dumps({"step": step, "a": step}) + "\n" for step in (1, 2)))
    run.new_attempt()
    assert list(recorded(run)) == [1, 2, 3]


def test_attempts_are_numbered_and_the_log_points_to_the_newest(tmp_path):
    run = create(tmp_path, "run")
    first, second = run.new_attempt(), run.new_attempt()
    assert [attempt.number for attempt in run.attempts()] == [1, 2]
    assert (first.run, second.run) == (run, run)
    second.log.write_text("second")
    assert run.log.read_text() == "second" and not os.path.isabs(os.readlink(run.log))


def test_only_several_data_sources_have_a_mean():
    two = {"val-core/openai/gsm8k/acc/mean@4": 0.5, "val-core/aime24/acc/mean@4": 0.25}
    found = mean_of_sources({**two, "val-core/aime24/acc/best@4/mean": 1.0})
    assert found == {"val-core/mean_of_sources/acc/mean@4": 0.375}
    assert mean_of_sources({"val-core/aime24/acc/mean@4": 0.25, "actor/lr": 1.0}) == {}


def test_summary_of_a_run(tmp_path):
    summary = Summary(seed=7)
    summary.add({"step": 0, VAL: 0.25})
    for step, seconds in ((1, 4.0), (2, 2.0), (3, 3.0)):
        summary.add({"step": step, "timing_s/step": seconds})
    summary.add({"step": 4, "timing_s/step": 3.0, VAL: 0.875})
    summary.add({"step": 5, "timing_s/step": 3.0, VAL: 0.875})
    summary.add({"step": 6, "timing_s/step": 3.0, VAL: 0.75})
    summary.write(tmp_path / "summary.json")
    written = json.loads((tmp_path / "summary.json").read_text())
    expected = {"seed": 7, "steps": 6, "initial_val": 0.25, "final_val": 0.75, "step_seconds_median": 3.0}
    expected |= {"best_val": 0.875, "best_step": 4}
    assert expected.items() <= written.items()
    assert not any(name.startswith("_") for name in written)


def test_a_resumed_run_has_no_value_from_before_training():
    summary = Summary(seed=1)
    summary.add({"step": 20, VAL: 0.5})
    assert summary.initial_val is None
    assert summary.final_val == 0.5


def test_row_aligns_with_the_header_and_shows_dashes_for_what_is_missing():
    record = {"step": 3, "critic/score/mean": 0.5, VAL: 0.625, "actor/kl_loss": 0.001, "timing_s/step": 2.0}
    assert len(row(record)) == len(header()) == sum(width for _, width, _, _ in METRIC_COLUMNS)
    assert row(record).split() == ["3", "0.500", "0.625", "0.00100", "-", "-", "-", "-", "2.00"]


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("noise\n(TaskRunner pid=1) ValueError: too short\nmore noise\n", "ValueError: too short"),
        ("noise only\n", "exit code 9 and no Python error"),
        ("x vllm.v1.engine.exceptions.EngineDeadError: y\n", "the vLLM engine died during the run (EngineDeadError)"),
        ("guards: vLLM engine vllm_server_0_0 has died (pid 7); ending the run\n", "vllm_server_0_0 has died (pid 7)"),
    ],
)
def test_failure_is_explained_from_the_log(tmp_path, log, expected):
    attempt = create(tmp_path, "run").new_attempt()
    attempt.log.write_text(log)
    assert expected in failure_cause(attempt, 9)


def test_the_workers_own_note_precedes_the_log_and_is_cut_to_two_lines(tmp_path):
    attempt = create(tmp_path, "run").new_attempt()
    attempt.log.write_text("ValueError: something earlier\n")
    attempt.failure.write_text("RuntimeError: first\n\nsecond\nthird\n")
    assert failure_cause(attempt, 1) == "RuntimeError: first\nsecond"


def test_an_engine_that_dies_because_the_run_ends_is_not_taken_for_the_cause(tmp_path):
    attempt = create(tmp_path, "run").new_attempt()
    attempt.log.write_text("EngineDeadError: torn down\n")
    attempt.failure.write_text("AssertionError: batch does not divide\n")
    assert failure_cause(attempt, 1) == "AssertionError: batch does not divide"


def test_failed_rollouts_are_explained_with_what_failed_in_them(tmp_path):
    attempt = create(tmp_path, "run").new_attempt()
    attempt.log.write_text("(Worker pid=1) RuntimeError: no verdict\n(Task pid=2) x.FailedRolloutError: 3 of 4\n")
    attempt.failure.write_text("FailedRolloutError: 3 of 4 groups failed\n")
    assert failure_cause(attempt, 1) == "RuntimeError: no verdict\nFailedRolloutError: 3 of 4 groups failed"


def test_the_root_of_a_chain_of_exceptions_comes_first(tmp_path):
    attempt = create(tmp_path, "run").new_attempt()
    lines = [
        "ValueError: an error of another answer",
        "Traceback (most recent call last):",
        "ModuleNotFoundError: No module named 'my_metrics'",
        "",
        "The above exception was the direct cause of the following exception:",
        "",
        "RuntimeError: Error loading module from module_path='score.py'",
        "During handling of the above exception, another exception occurred:",
        "ray.exceptions.RayTaskError(RuntimeError): x",
    ]
    attempt.log.write_text("".join(f"(RewardLoopWorker pid=1) {line}\n" for line in lines))
    attempt.failure.write_text("FailedRolloutError: 24 of 24 groups failed\n")
    cause = failure_cause(attempt, 1)
    assert cause == "ModuleNotFoundError: No module named 'my_metrics'\nFailedRolloutError: 24 of 24 groups failed"


def test_describe_returns_the_root_cause():
    try:
        try:
            raise KeyError("root")
        except KeyError as error:
            raise RuntimeError("wrapper") from error
    except RuntimeError as error:
        assert describe(error) == "KeyError: 'root'"


STOPPED = """
import os, signal, sys, time
from reinforcepp_verl.runs.stop_signals import SAME_REQUEST_S, Stopped, raise_on_stop_signals
number, asked = int(sys.argv[1]), sys.argv[2] == "asked"
signal.signal(signal.SIGHUP, signal.SIG_DFL)
with raise_on_stop_signals((lambda: print("asked", flush=True)) if asked else None) as ignore_further_signals:
    try:
        os.kill(os.getpid(), number)
        if asked:
            os.kill(os.getpid(), number)
            time.sleep(SAME_REQUEST_S + 0.1)
            os.kill(os.getpid(), number)
        time.sleep(9)
    except Stopped as stop:
        ignore_further_signals()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            os.kill(os.getpid(), number)
        print("cleaned up", flush=True)
        sys.exit(stop.exit_code)
"""


@pytest.mark.parametrize("first", ["at_once", "asked"])
@pytest.mark.parametrize(("number", "exit_code"), [(2, 130), (15, 143), (1, 129), (10, 138)])
def test_the_first_signal_requests_a_stop_the_second_ends_and_more_do_not_disturb_the_cleanup(number, exit_code, first):
    done = subprocess.run([sys.executable, "-c", STOPPED, str(number), first], capture_output=True, text=True)
    expected = ["asked", "cleaned up"] if first == "asked" else ["cleaned up"]
    assert (done.returncode, done.stdout.splitlines()) == (exit_code, expected)


def test_every_process_with_the_mark_is_ended_even_a_daemon_that_ignores_sigterm(tmp_path):
    stubborn = "import signal as s, time; s.signal(s.SIGTERM, s.SIG_IGN); print('up', flush=True); time.sleep(99)"
    environment = {**os.environ, processes.RUN_VARIABLE: str(tmp_path)}
    child = subprocess.Popen(
        [sys.executable, "-c", stubborn], env=environment, start_new_session=True, stdout=subprocess.PIPE
    )
    assert child.stdout is not None and child.stdout.readline() == b"up\n"
    unmarked = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"])
    try:
        assert [process.pid for process in processes.find_all(str(tmp_path))] == [child.pid]
        assert processes.terminate_all(str(tmp_path), grace_s=0.5) == 1
        child.wait(5)
        assert unmarked.poll() is None
    finally:
        unmarked.kill()
        unmarked.wait()
    assert processes.find_all(str(tmp_path)) == []


def test_a_signal_while_a_library_is_running_stops():
    """OmegaConf wraps every `Exception`, so that the reason would be lost."""
    OmegaConf.register_new_resolver("signal", lambda: os.kill(os.getpid(), signal.SIGTERM), replace=True)
    with raise_on_stop_signals(), pytest.raises(Stopped, match="SIGTERM"):
        _ = OmegaConf.create({"key": "${signal:}"}).key
