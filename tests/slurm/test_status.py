"""`reinforcepp slurm status`: a row for every run, whatever has happened to its files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from reinforcepp_verl.slurm import job_status
from reinforcepp_verl.slurm.queue import QueuedJob, ended_jobs


def make_run(runs_dir: Path, name: str, job_id: str, **summary: object) -> None:
    run = runs_dir / name
    (run / "slurm" / "attempt_1").mkdir(parents=True)
    (run / "slurm" / "job_id").write_text(f"{job_id}\n")
    (run / "config.yaml").write_text("trainer: {total_training_steps: 60}\n")
    (run / "summary.json").write_text(json.dumps({"status": "running", "steps": 0, "error": None, **summary}))


def test_status_has_a_row_for_each_run_of_a_job(tmp_path):
    make_run(tmp_path, "a", "11", steps=7)
    make_run(tmp_path, "b", "12_3", status="failed", steps=2, error="ValueError: no\nmore")
    (tmp_path / "a" / "metrics.jsonl").write_text('{"step": 7, "critic/score/mean": 0.5}\n')
    (tmp_path / "by_hand").mkdir()
    (tmp_path / "latest").symlink_to("b")
    rows = job_status.rows(
        tmp_path, {"11": QueuedJob("RUNNING", "1:00:00"), "12": QueuedJob("PENDING", "", "Priority")}
    )
    assert [tuple(vars(row).values()) for row in rows] == [
        ("a", "11", "RUNNING", "7/60", "0.500", "1:00:00", "1", "running"),
        ("b", "12_3", "failed", "2/60", "-", "-", "1", "ValueError: no"),
    ]


def test_status_without_squeue_shows_the_files(tmp_path, monkeypatch, capsys):
    make_run(tmp_path, "a", "11", status="stopped", steps=7)
    monkeypatch.setenv("PATH", str(tmp_path))
    job_status.show(tmp_path, Console(width=120))
    output = " ".join(capsys.readouterr().out.split())
    assert "squeue is not on PATH: the states are from the run folders" in output
    assert "a 11 stopped 7/60" in output
    with pytest.raises(ValueError, match="no run in it was submitted to Slurm"):
        job_status.show(tmp_path / "a", Console())


REWARD = "critic/score/mean"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def fill_with_garbage(path: Path) -> None:
    path.write_bytes(b"\x00\xff{[" * 1000)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [truncate, empty, fill_with_garbage, replace_by_folder, Path.unlink])
@pytest.mark.parametrize("name", ["summary.json", "config.yaml", "metrics.jsonl", "slurm/job_id"])
def test_a_damaged_run_keeps_its_row_and_hides_no_other(tmp_path, name, damage: Callable[[Path], None]):
    for run in "abc":
        make_run(tmp_path, run, "11", steps=7)
        (tmp_path / run / "metrics.jsonl").write_text(json.dumps({"step": 7, REWARD: 0.5}) + "\n")
    damage(tmp_path / "b" / name)
    first, damaged, last = job_status.rows(tmp_path, {})
    assert (first.run, damaged.run, last.run) == ("a", "b", "c")
    assert (
        (first.step, first.reward, first.reason)
        == (last.step, last.reward, last.reason)
        == ("7/60", "0.500", "running")
    )
    known = {"step": "7/60", "reward": "0.500", "state": "running", "job": "11"}
    lost = {"summary.json": "state", "config.yaml": "step", "metrics.jsonl": "reward", "slurm/job_id": "job"}[name]
    assert {key: getattr(damaged, key) for key in known if key != lost} == {k: known[k] for k in known if k != lost}
    named = damage not in (Path.unlink, replace_by_folder) and name in ("summary.json", "config.yaml")
    assert not named or str(tmp_path / "b" / name) in damaged.reason


def test_what_a_file_has_lost_comes_from_the_attempts(tmp_path):
    make_run(tmp_path, "a", "11", steps=7)
    run = tmp_path / "a"
    (run / "attempt_1").mkdir()
    (run / "attempt_1" / "config.yaml").write_text("trainer: {total_training_steps: 80}\n")
    lines = [json.dumps({"step": step, "data": {REWARD: step / 10}}) for step in (1, 2)]
    (run / "attempt_1" / "verl_metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 3, "da')
    for name in ("config.yaml", "summary.json"):
        empty(run / name)
    (row,) = job_status.rows(tmp_path, {"11": QueuedJob("RUNNING")})
    assert (row.step, row.reward, row.state) == ("2/80", "0.200", "RUNNING")
    assert row.reason == f"{run / 'summary.json'}: not valid JSON"


def test_ids_that_are_none_are_not_asked_for(tmp_path, monkeypatch):
    stub = tmp_path / "sacct"
    stub.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$*\" >> {tmp_path}/calls\necho '11|COMPLETED'\n")
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert ended_jobs(["11", "-", "x; y", ""]) == {"11": QueuedJob("COMPLETED")}
    assert (tmp_path / "calls").read_text().strip().endswith("--jobs=11")
    ended_jobs([str(number) for number in range(2500)])
    assert len((tmp_path / "calls").read_text().splitlines()) == 4
