"""`reinforcepp samples`, and the samples between the rows of the console."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console
from typer.testing import CliRunner

from reinforcepp_verl.cli import app
from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.config.sample_options import SampleOptions
from reinforcepp_verl.runs.run_console import RunConsole
from reinforcepp_verl.runs.shown_samples import ShownSamples
from reinforcepp_verl.training_samples.files import SampleFiles
from reinforcepp_verl.training_samples.record import Answer, PromptSample, Row

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e[bold]x[/bold]"


def answer(number: int, reward: float | None, text: str, end: str = "stopped", **given) -> Answer:
    return Answer(number, reward, 1, end, [Row([7], [text], [1])], **given)


@pytest.fixture
def run(tmp_path):
    files = SampleFiles(RunFolder(tmp_path).samples)
    answers = [
        answer(2, 1.0, "right\nindeed", advantage=0.5, kl=0.01, parts={"acc": 1.0}, texts={"pred": "42"}),
        answer(0, 0.0, HOSTILE, "truncated"),
        answer(1, 0.0, "", error="error: ZeroDivisionError: \x1b"),
        answer(3, 0.5, "argmax", greedy=True),
    ]
    for step in (1, 20, 25):
        files.write(step, [PromptSample(step, f"what is {step}?", answers, 3, 0.333, 0.471, "math", "42")], math.inf)
    return tmp_path


def printed(*arguments, code=0):
    result = CliRunner().invoke(app, ["samples", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


def test_it_prints_the_newest_step(run):
    lines = printed(run).splitlines()
    assert lines[0] == "step 25: 3 answers, reward 0.333 ± 0.471, math, ground truth 42"
    assert lines[1] == "  | what is 25?"
    assert lines[2] == "answer 3: reward 1, advantage +0.5, KL 0.01, 1 tokens, stopped, acc 1, pred 42"
    assert lines[3:5] == ["  | right", "  | indeed"]
    assert "greedy answer: reward 0.5, 1 tokens, stopped" in lines
    assert "not scored: error: ZeroDivisionError: \\x1b" in "\n".join(lines)


def test_escape_sequences_are_shown_and_not_sent(run):
    text = printed(run, "--step", 1)
    assert "\x1b" not in text and "\u202e" not in text
    assert "<script>alert(1)</script>\\x1b[31m\\u202e[bold]x[/bold]" in text


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--right"], ["answer 3", "greedy answer"]),
        (["--wrong"], ["answer 1", "answer 2"]),
        (["--wrong", "--truncated"], ["answer 1"]),
        (["--errors"], ["answer 2"]),
        (["--limit", "2"], ["answer 3", "answer 1"]),
    ],
)
def test_options_choose_answers(run, options, names):
    lines = printed(run, *options).splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith(("answer", "greedy"))] == names


def test_long_texts_are_cut_unless_full_is_given(run):
    files = SampleFiles(RunFolder(run).samples)
    files.write(30, [PromptSample(30, "q", [answer(0, 1.0, "a" * 5000)], 1, 1.0, 0.0)], math.inf)
    assert "[... 4000 characters: --full ...]" in printed(run)
    assert "a" * 5000 in printed(run, "--full")


def test_problems_are_one_line_with_the_fix(run, tmp_path):
    assert "no such run folder; give the folder of a run" in printed(tmp_path / "none", code=2)
    assert "of 3 kept steps from 1 to 25, the nearest is 20" in printed(run, "--step", 21, code=2)
    assert "no answer is both" in printed(run, "--right", "--wrong", code=2)
    assert "none of the 4 answers kept of step 25 is like that" in printed(run, "--right", "--truncated")
    (tmp_path / "empty").mkdir()
    assert "wait for the first step" in printed(tmp_path / "empty", code=2)


def shown(run, steps, *, on_terminal=False, **options):
    screen = io.StringIO()
    samples = ShownSamples(SampleFiles(RunFolder(run).samples), SampleOptions(**options), on_terminal=on_terminal)
    console = RunConsole(Console(file=screen, width=60), total_steps=30, samples=samples)
    for step in steps:
        console.show({"step": step})
    return [line for line in screen.getvalue().splitlines() if line.startswith("  ") and line.split()[0].isalpha()]


def test_the_console_shows_the_best_and_the_worst_answer_of_the_first_step_and_of_every_nth(run):
    lines = shown(run, [0, 1, 20, 25], console_every=20)
    assert [line.split()[0] for line in lines] == ["prompt", "best", "worst"] * 2
    assert lines[0].endswith("what is 1?") and lines[3].endswith("what is 20?")
    assert lines[1].endswith("best 1   right\\nindeed")
    assert all(len(line) <= 60 for line in lines)


@pytest.mark.parametrize(
    ("options", "on_terminal", "samples"),
    [({}, False, 0), ({}, True, 2), ({"console_every": 0}, True, 0), ({"groups_per_step": 0}, True, 0)],
)
def test_the_console_is_quiet_in_a_file(run, options, on_terminal, samples):
    lines = shown(run, [1, 20, 25], on_terminal=on_terminal, **options)
    assert sum("prompt" in line for line in lines) == samples


def test_a_sample_that_cannot_be_read_does_not_stop_the_run(run):
    (run / "samples" / "20.jsonl").write_bytes(b"garbage")
    lines = shown(run, [20], console_every=20)
    assert "no sample" in lines[-1] or "no sample" in " ".join(lines)
