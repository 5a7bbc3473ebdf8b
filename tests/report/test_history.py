"""Reading a run folder: what is tolerated, what is refused, and with which message."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from reinforcepp_verl.report.history import load_history
from reinforcepp_verl.report.validation_metric import accuracy_by_source, mean_key, validation_key

ACCURACY = "val-core/reinforcepp/arithmetic/acc/mean@1"
REWARD = "critic/score/mean"


def write_run(folder: Path, *records: dict, tail: str = "", name: str | None = None, seed: int | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records) + tail)
    if name:
        (folder / "config.yaml").write_text(f"trainer:\n  experiment_name: {name}\n")
    if seed is not None:
        (folder / "summary.json").write_text(json.dumps({"seed": seed, "status": "done"}))
    return folder


def points(history, key: str) -> dict[int, float]:
    steps, values = history.series[key]
    return dict(zip(steps.tolist(), values.tolist(), strict=True))


def test_reads_series_name_and_seed(tmp_path):
    run = write_run(tmp_path / "r", {"step": 0, ACCURACY: 0.1}, {"step": 1, REWARD: 0.5}, name="mine", seed=3)
    history = load_history(run)
    assert (history.name, history.seed, history.path) == ("mine", 3, run.resolve())
    assert points(history, ACCURACY) == {0: 0.1}
    assert points(history, REWARD) == {1: 0.5}


def test_folder_name_and_no_seed_without_config_and_summary(tmp_path):
    (tmp_path / "latest").symlink_to(write_run(tmp_path / "real", {"step": 1, REWARD: 0.5}))
    history = load_history(tmp_path / "latest")
    assert (history.name, history.seed) == ("real", None)


def test_config_without_experiment_name(tmp_path):
    run = write_run(tmp_path / "r", {"step": 1})
    (run / "config.yaml").write_text("trainer: {nnodes: 1}\n")
    assert load_history(run).name == "r"


def test_null_and_nan_are_nan_and_other_values_are_left_out(tmp_path):
    lines = '{"step": 1, "a": NaN, "b": null, "c": "text", "d": true, "e": 2}\n'
    history = load_history(write_run(tmp_path / "r", tail=lines))
    assert set(history.series) == {"a", "b", "e"}
    assert np.isnan(history.series["a"][1]).all() and np.isnan(history.series["b"][1]).all()


@pytest.mark.parametrize("torn", ['{"step": 2, "cri', "{", '{"step": 2, "x": "\\ud83d'])
def test_truncated_last_line_is_ignored(tmp_path, torn):
    assert points(load_history(write_run(tmp_path / "r", {"step": 1, REWARD: 0.5}, tail=torn)), REWARD) == {1: 0.5}


def test_complete_last_line_without_newline_counts(tmp_path):
    run = write_run(tmp_path / "r", {"step": 1, REWARD: 0.5}, tail=json.dumps({"step": 2, REWARD: 0.6}))
    assert points(load_history(run), REWARD) == {1: 0.5, 2: 0.6}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"step": 2, "cri', "not valid JSON"),
        ("[1, 2]", "not a JSON object"),
        ('{"x": 1}', 'no integer "step"'),
        ('{"step": "2"}', 'no integer "step"'),
    ],
)
@pytest.mark.parametrize("after", ["", '{"step": 3}\n'])
def test_malformed_line_names_file_and_line(tmp_path, line, reason, after):
    run = write_run(tmp_path / "r", {"step": 1, REWARD: 0.5}, tail=f"{line}\n{after}")
    with pytest.raises(ValueError, match=rf"metrics\.jsonl, line 2: {reason}") as error:
        load_history(run)
    assert "\n" not in str(error.value)


def test_resume_replaces_the_steps_after_the_checkpoint(tmp_path):
    records = [{"step": step, REWARD: float(step)} for step in (1, 2, 3, 4)]
    resumed = [{"step": 2, ACCURACY: 0.5}, {"step": 3, REWARD: 30.0}]
    history = load_history(write_run(tmp_path / "r", *records, *resumed))
    assert points(history, REWARD) == {1: 1.0, 2: 2.0, 3: 30.0}
    assert points(history, ACCURACY) == {2: 0.5}


def test_missing_folder_and_missing_metrics_name_the_fix(tmp_path):
    with pytest.raises(ValueError, match="no such run folder; give the folder of a run"):
        load_history(tmp_path / "nope")
    with pytest.raises(ValueError, match=r"no metrics\.jsonl in it; give the folder of a run"):
        load_history(tmp_path)


@pytest.mark.parametrize(("name", "text"), [("config.yaml", "a: [1\n"), ("summary.json", "{")])
def test_broken_side_file_is_named(tmp_path, name, text):
    run = write_run(tmp_path / "r", {"step": 1})
    (run / name).write_text(text)
    with pytest.raises(ValueError, match=name) as error:
        load_history(run)
    assert "\n" not in str(error.value)


def test_empty_metrics_file_is_a_run_without_series(tmp_path):
    assert load_history(write_run(tmp_path / "r")).series == {}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([REWARD, ACCURACY], ACCURACY),
        (["val-core/a/reward/mean@1", "val-core/b/acc/mean@1"], "val-core/b/acc/mean@1"),
        (["val-core/b/acc/mean@1", "val-core/a/acc/mean@1"], "val-core/a/acc/mean@1"),
        (["val-core/a/acc/mean@1", "val-core/mean_of_sources/acc/mean@1"], "val-core/mean_of_sources/acc/mean@1"),
        (["val-core/mean_of_sources/reward/mean@1", "val-core/a/acc/mean@1"], "val-core/a/acc/mean@1"),
        (["val-core/x/reward/mean@4", "val-core/x/reward/best@4/mean"], "val-core/x/reward/mean@4"),
        (["val-aux/x/acc/mean@1", "val-core/x/acc/maj@4/mean"], None),
        ([], None),
    ],
)
def test_validation_key(names, expected):
    assert validation_key(names) == expected
    assert validation_key(dict.fromkeys(names, 0.0)) == expected


def test_the_accuracies_of_several_sources():
    names = [f"val-core/r/sums_of_{size}/acc/mean@1" for size in (3, 4)]
    both = {"r/sums_of_3": names[0], "r/sums_of_4": names[1]}
    assert accuracy_by_source([*names, "val-core/mean_of_sources/acc/mean@1", "val-aux/r/x/acc/mean@1"]) == both
    assert accuracy_by_source(names[:1]) == {}


def test_the_mean_of_a_number_that_the_reward_function_returns():
    names = [
        "critic/quality/mean@1",
        "val-core/lists/reward/mean@1",
        "val-aux/lists/quality/mean@1",
        "reward/quality/mean",
    ]
    assert mean_key(names, "quality") == "val-aux/lists/quality/mean@1"
    assert mean_key(names, "qualities") is None
    with pytest.raises(ValueError, match="quality has a mean for each data source"):
        mean_key([*names, "val-aux/others/quality/mean@1"], "quality")


def write_attempt(run: Path, number: int, *steps: int, scale: float = 1.0) -> None:
    folder = run / f"attempt_{number}"
    folder.mkdir()
    start = steps[0] - 1
    mode = f"resume_path, resume_from_path: {run}/checkpoints/global_step_{start}" if start else "auto"
    (folder / "config.yaml").write_text(f"seed: 5\ntrainer: {{experiment_name: mine, resume_mode: {mode}}}\n")
    lines = [json.dumps({"step": step, "data": {REWARD: scale * step, "unwanted": 1.0}}) + "\n" for step in steps]
    (folder / "verl_metrics.jsonl").write_text("".join(lines))


WHOLE = {1: 1.0, 2: 2.0, 3: 30.0, 4: 40.0}


@pytest.fixture
def run(tmp_path):
    """Return a run of two attempts, the second one from step 2."""
    folder = write_run(tmp_path / "r", *({"step": s, REWARD: v} for s, v in WHOLE.items()), name="mine", seed=5)
    write_attempt(folder, 1, 1, 2, 3)
    write_attempt(folder, 2, 3, 4, scale=10.0)
    return folder


def damage_line(path: Path, number: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number] = b'{"step": \x00\xff\n'
    path.write_bytes(b"".join(lines))


@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:30]),
        lambda path: path.write_bytes(b"\x00" * 5000),
        lambda path: path.write_bytes(b"\x00\xff\n" * 5000),
        lambda path: damage_line(path, 0),
        lambda path: damage_line(path, 1),
        lambda path: damage_line(path, 3),
        lambda path: path.write_text('{"step": 1}\n{"step": 4}\n'),
        lambda path: path.write_text("[]\n" * 4),
    ],
)
def test_what_metrics_jsonl_has_lost_comes_from_the_attempts(run, damage):
    damage(run / "metrics.jsonl")
    history = load_history(run, lambda name: name == REWARD)
    assert points(history, REWARD) == WHOLE and set(history.series) == {REWARD}


@pytest.mark.parametrize("attempt", [1, 2])
@pytest.mark.parametrize("content", [b"", b"trainer:\n  resume", b"\x00\xff"])
def test_an_attempt_without_its_configuration_starts_before_its_first_step(run, attempt, content):
    (run / f"attempt_{attempt}" / "config.yaml").write_bytes(content)
    (run / "metrics.jsonl").unlink()
    assert points(load_history(run), REWARD) == WHOLE


def test_a_damaged_line_that_no_attempt_has_is_named(run):
    damage_line(run / "metrics.jsonl", 1)
    damage_line(run / "attempt_1" / "verl_metrics.jsonl", 1)
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2: not valid JSON; repair or delete that line$"):
        load_history(run)


@pytest.mark.parametrize("name", ["config.yaml", "summary.json"])
@pytest.mark.parametrize("content", [b"", b"{a: [", b"\x00\xff", b"[1]", b"7"])
def test_what_a_side_file_has_lost_comes_from_the_attempts(run, name, content):
    (run / name).write_bytes(content)
    history = load_history(run)
    assert (history.name, history.seed) == ("mine", 5)


def test_only_wanted_metrics_are_read(run):
    (run / "metrics.jsonl").write_text('{"step": 1, "a": 1, "b": 2}\n{"step": 2, "b": 3, "c": 4}\n')
    assert set(
        load_history(write_run(run.parent / "s", {"step": 1, "a": 1, "b": 2}), lambda name: name == "b").series
    ) == {"b"}
