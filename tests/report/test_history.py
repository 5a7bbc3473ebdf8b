"""Reading a run folder: what is tolerated, what is refused, and with which message."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from reinforcepp_verl.report.history import load_history
from reinforcepp_verl.report.validation_metric import validation_key

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
