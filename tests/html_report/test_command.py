"""The `report` command: where it writes, how it follows a run, and its exit codes."""

from __future__ import annotations

import json
import os
import threading

import pytest
import typer
from typer.testing import CliRunner

from reinforcepp_verl.cli.report import report
from reinforcepp_verl.html_report import write_page

app = typer.Typer()
app.command()(report)


def invoke(*arguments: object):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_writes_into_the_run_behind_latest(make_run, tmp_path):
    run = make_run()
    (tmp_path / "latest").symlink_to("run")
    result = invoke(tmp_path / "latest", run)
    assert (result.exit_code, result.stdout.strip()) == (0, str(run / "report.html")), result.output
    assert (run / "report.html").read_bytes().startswith(b"<!DOCTYPE html>")


def test_several_runs_and_another_metric_go_where_they_are_told(make_run, tmp_path):
    result = invoke(make_run("a"), make_run("b", seed=2), "-m", "Time=timing_s/gen", "-o", tmp_path / "new" / "x.html")
    assert result.exit_code == 0, result.output
    assert '"title":"Time"' in (tmp_path / "new" / "x.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/nope"], "no such run folder"),
        (["{tmp}/empty"], "not the folder of a run"),
        (["{tmp}/run", "-m", "critic/scores"], "no run has recorded critic/scores"),
        (["{tmp}/run", "-o", "{tmp}/run/summary.json/x.html"], "summary.json"),
        (["{tmp}/run", "-o", "{tmp}/run/metrics.jsonl"], "run/metrics.jsonl is a file of the run"),
        (["{tmp}/run", "-o", "{tmp}/empty"], "empty is a folder; name a file in it"),
    ],
)
def test_errors_are_one_line_and_code_2(make_run, tmp_path, arguments, message):
    make_run()
    (tmp_path / "empty").mkdir()
    result = invoke(*[argument.format(tmp=tmp_path) for argument in arguments])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ") and message in result.stderr and result.stderr.count("\n") == 1


def test_damage_is_a_warning_and_code_1(make_run, tmp_path):
    bad = make_run("bad")
    (bad / "config.yaml").write_text("a: [\n")
    result = invoke(bad, make_run("good"), "-o", tmp_path / "x.html")
    assert result.exit_code == 1 and (tmp_path / "x.html").is_file()
    assert result.stderr.startswith("warning: ") and "config.yaml" in result.stderr


def test_follow_writes_after_each_change_until_the_run_has_ended(make_run, tmp_path):
    run, out, seen = make_run(status="running", steps=1), tmp_path / "x.html", []
    summary = json.loads((run / "summary.json").read_text())

    def go_on(document: object) -> None:
        assert [path.name for path in out.parent.iterdir() if path.name.startswith(".")] == []
        seen.append(out.read_text().partition('<span class="status ')[2].partition('"')[0])
        step = len(seen) + 1
        with (run / "metrics.jsonl").open("a") as stream:
            stream.write(json.dumps({"step": step, "critic/score/mean": 0.5}) + "\n")
        if step == 3:
            (run / "summary.json").write_text(json.dumps({**summary, "status": "finished", "steps": step}))

    document = write_page.follow([run], out, interval_s=0.01, wrote=go_on)
    assert seen == ["running", "running", "finished"] and not document.going_on
    assert "finished: 3 steps" in out.read_text()


def test_follow_stays_with_the_run_that_was_the_latest(make_run, tmp_path, monkeypatch):
    old, new, latest = make_run("old", status="running"), make_run("new"), tmp_path / "latest"
    latest.symlink_to("old")

    def next_run(_: float) -> None:
        latest.unlink(missing_ok=True)
        latest.symlink_to("new")
        summary = json.loads((old / "summary.json").read_text())
        (old / "summary.json").write_text(json.dumps({**summary, "status": "finished"}))

    monkeypatch.setattr(write_page.time, "sleep", next_run)
    result = invoke(latest, "--follow")
    assert result.exit_code == 0, result.output
    assert (old / "report.html").is_file() and not (new / "report.html").exists()
    assert result.stdout == f"writing {old}/report.html until the runs have ended\n"


def test_a_pipe_gets_the_page_and_stays_a_pipe(make_run, tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    assert invoke(make_run(), "-o", pipe).exit_code == 0
    reader.join(timeout=60)
    assert read[0].startswith(b"<!DOCTYPE html>") and pipe.is_fifo()
