"""What is kept of a run's samples on disk: the format, a step once, the limit."""

from __future__ import annotations

import math

import pytest

from reinforcepp_verl.training_samples.files import SampleFiles
from reinforcepp_verl.training_samples.record import Answer, PromptSample, Row, from_line, to_lines

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e\r\n\u2028\0"


def row(text: str = "ab", **given) -> Row:
    return Row(list(range(len(text))), list(text), [1] * len(text), **given)


def sample(step: int, text: str = "ab", **given) -> PromptSample:
    answer = Answer(0, 1.0, len(text), "stopped", [row(text)])
    return PromptSample(
        step, **{"prompt": "q", "answers": [answer]}, sampled=2, mean_reward=0.5, reward_std=0.5, **given
    )


@pytest.fixture
def files(tmp_path) -> SampleFiles:
    return SampleFiles(tmp_path / "samples")


def test_everything_that_is_written_is_read_again(files):
    full = row("xyz", advantages=[0.5, -1.0, 0.0], engine_log_probs=[-1.0, -2.0, 0.0], left_out=7, left_out_at=1)
    answers = [
        Answer(3, 1.0, 3, "truncated", [full, row()], {"acc": 1.0}, {"pred": HOSTILE}, None, 0.25, 0.5),
        Answer(4, -1.0, 0, "stopped", [], error="error: E: boom", greedy=True, dropped=True),
    ]
    written = [PromptSample(5, HOSTILE, answers, 8, 0.1, 0.2, "math", HOSTILE), sample(5)]
    files.write(5, written, math.inf)
    assert files.read(5) == written and files.steps() == [5]


def test_nan_and_infinity_are_null():
    written = PromptSample(
        1, "q", [Answer(0, math.nan, 1, "stopped", [row(advantages=[math.inf, 1.0])])], 1, math.nan, 0.0
    )
    [line] = to_lines([written]).splitlines()
    read = from_line(line)
    assert read.mean_reward is None and read.answers[0].reward is None
    assert read.answers[0].rows[0].advantages == [None, 1.0]


def test_a_row_shows_where_tokens_are_left_out():
    assert row("abcd", left_out=9, left_out_at=1).text == "a[... 9 tokens left out ...]bcd"
    assert row("abcd").text == "abcd"


def test_a_repeated_step_replaces_its_samples_and_later_ones_are_discarded(files):
    for step in (8, 9, 10, 11):
        files.write(step, [sample(step)], math.inf)
    files.discard_after(9)
    assert files.steps() == [8, 9]
    files.write(9, [sample(9, "new")], math.inf)
    assert files.steps() == [8, 9] and files.read(9) == [sample(9, "new")]


def test_a_full_folder_keeps_the_first_and_the_newest_step_and_thins_out_the_others(files):
    size = len(to_lines([sample(1)]))
    for step in range(1, 10):
        files.write(step, [sample(step)], 5 * size)
    assert files.steps() == [1, 4, 6, 8, 9], "3, 5, 7 first, then 2"
    files.write(10, [sample(10)], 0)
    assert files.steps() == [1, 10]


def test_a_missing_or_damaged_file_is_one_line_with_the_fix(files):
    with pytest.raises(ValueError, match=r"3\.jsonl: no such file; the run has kept no samples"):
        files.read(3)
    files.write(2, [sample(2)], math.inf)
    with pytest.raises(ValueError, match=r"of 1 kept steps from 2 to 2, the nearest is 2"):
        files.read(3)
    path = files.folder / "2.jsonl"
    for damaged in (b"\xff\n", path.read_bytes()[:-20], b'{"step": 2}\n', b"[]\n"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"2\.jsonl, line 1: not a training sample: .*; delete that file") as error:
            files.read(2)
        assert "\n" not in str(error.value)


def test_other_files_in_the_folder_are_left_alone(files):
    files.write(2, [sample(2)], math.inf)
    (files.folder / "notes.txt").write_text("mine")
    (files.folder / ".3.jsonl.tmp").write_text("cut off")
    files.discard_after(0)
    assert files.steps() == [] and (files.folder / "notes.txt").exists()
