"""`reinforcepp eval` on small files: what it finds, prints, writes and refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from reinforcepp_verl.cli import app
from reinforcepp_verl.evaluation.accuracy_report import default_ks


def write(path, correct, *, source="math", answers=True, **extra):
    """Write `correct[question][sample]`; right samples answer "r", each wrong one something different."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        for i, row in enumerate(correct):
            for j, right in enumerate(row):
                line = {"data_source": source, "question": f"q{i}", "acc": float(right), **extra}
                file.write(json.dumps(line | ({"pred": "r" if right else f"w{j}"} if answers else {})) + "\n")
    return path


def invoke(*arguments):
    return CliRunner().invoke(app, ["eval", *map(str, arguments)])


def run(*arguments):
    result = invoke(*arguments, "--resamples", 200)
    assert result.exit_code == 0, result.output
    return result.stdout


def run_json(path, *arguments):
    run(*arguments, "--json", path)
    return json.loads(path.read_text())


def refused(*arguments):
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert result.stdout == ""
    return result.stderr


def value(document, source, metric, report=0):
    return document["reports"][report]["data_sources"][source]["metrics"][metric]["value"]


def test_table_and_json_of_one_file(tmp_path):
    file = write(tmp_path / "a.jsonl", [[1, 0, 0, 0], [1, 1, 0, 0]])
    write(file, [[1, 1], [0, 0], [1, 0]], source="aime")
    text = run(file, "--k", "2,1,4", "--json", tmp_path / "new" / "a.json")
    document = json.loads((tmp_path / "new" / "a.json").read_text())
    assert document["settings"] == {"resamples": 200, "seed": 1, "confidence": 0.95}
    math = document["reports"][0]["data_sources"]["math"]
    assert (math["questions"], math["samples_per_question"]) == (2, {"min": 4, "max": 4})
    assert list(math["metrics"]) == ["mean", "pass@1", "maj@1", "pass@2", "maj@2", "pass@4", "maj@4"]
    assert value(document, "math", "mean") == pytest.approx(3 / 8)
    assert value(document, "math", "pass@2") == pytest.approx((1 / 2 + 5 / 6) / 2)
    # One right answer of four different ones wins a quarter of the ties; two equal ones win.
    assert value(document, "math", "maj@4") == pytest.approx((1 / 4 + 1) / 2)
    assert value(document, "aime", "pass@2") == pytest.approx(2 / 3)
    assert document["comparisons"] == []
    for expected in ("mean@4", "37.5", "66.7", "mean@2", "aime: k=4 refused: 3 of 3 questions have fewer samples"):
        assert expected in text


def test_result_does_not_depend_on_the_order_of_the_lines_but_on_the_seed(tmp_path):
    correct = np.random.default_rng(0).integers(2, size=(20, 3))
    file = write(tmp_path / "a.jsonl", correct)
    mixed = tmp_path / "b.jsonl"
    mixed.write_text("".join(reversed(file.read_text().splitlines(keepends=True))))
    first, second = (run_json(tmp_path / "x.json", path)["reports"][0]["data_sources"] for path in (file, mixed))
    assert first == second
    assert run_json(tmp_path / "x.json", file, "--seed", 2)["reports"][0]["data_sources"] != first


def test_default_ks_end_at_the_number_of_samples():
    assert [default_ks(n) for n in (1, 2, 3, 4, 6, 16)] == [(1,), (2,), (2, 3), (2, 4), (2, 4, 6), (2, 4, 8, 16)]


def test_caveats_are_reported(tmp_path):
    file = tmp_path / "a.jsonl"
    lines = [{"question": "q", "acc": 1}, {"question": "q", "acc": None}, {"question": "p", "acc": 1}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = run(file)
    assert "unknown: the lines have no data_source" in text
    assert "no maj@k: the lines have neither pred nor answer" in text and "maj@1" not in text
    assert "samples without a grade (null), counted as wrong: 1" in text
    assert "questions have 1 to 2 samples" in text
    assert "questions have the same value" not in text
    assert "mean, pass@2, maj@2: no interval, because all 2 questions have the same value" in run(
        write(tmp_path / "b.jsonl", [[1, 1]] * 2)
    )


def test_folder_gives_its_newest_dump_or_the_requested_step(tmp_path):
    for step, right in ((5, 0), (10, 1), (9, 0)):
        write(tmp_path / "dumps" / f"{step}.jsonl", [[right, 1]], step=step)
    write(tmp_path / "dumps" / "notes.jsonl", [[0]])
    newest = run_json(tmp_path / "x.json", tmp_path / "dumps")
    assert (newest["reports"][0]["step"], value(newest, "math", "mean")) == (10, 1.0)
    older = run_json(tmp_path / "x.json", tmp_path / "dumps", "--step", 5)
    assert (older["reports"][0]["step"], value(older, "math", "mean")) == (5, 0.5)
    assert "step 5" in run(tmp_path / "dumps", "--step", 5)
    assert "no dump of step 6; available are 5, 9, 10" in refused(tmp_path / "dumps", "--step", 6)


def make_run(folder, validation="null"):
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(f"trainer:\n  validation_data_dir: {validation}\n")
    (folder / "metrics.jsonl").write_text('{"step": 1}\n')
    return folder


def test_run_folder_leads_to_its_dumps(tmp_path, monkeypatch):
    inside = make_run(tmp_path / "runs" / "inside")
    write(inside / "validation" / "3.jsonl", [[1]])
    absolute = make_run(tmp_path / "runs" / "absolute", tmp_path / "elsewhere")
    write(tmp_path / "elsewhere" / "4.jsonl", [[1]])
    relative = make_run(tmp_path / "runs" / "relative", "dumps/relative")
    write(tmp_path / "dumps" / "relative" / "5.jsonl", [[1]])
    (tmp_path / "runs" / "latest").symlink_to("relative")
    for folder, name in ((inside, "3"), (absolute, "4"), (relative, "5"), (tmp_path / "runs" / "latest", "5")):
        document = run_json(tmp_path / "x.json", folder)
        assert document["reports"][0]["file"].endswith(f"{name}.jsonl")
    monkeypatch.chdir(tmp_path)
    assert "runs/latest" in run("runs/latest")


@pytest.mark.parametrize("content", [None, b"", b"a: [1", b"\x00\xff", b"- 1\n", b"7"])
def test_a_run_without_a_readable_configuration_leads_to_its_dumps(tmp_path, content):
    for name, elsewhere in (("inside", None), ("outside", tmp_path / "elsewhere")):
        folder = make_run(tmp_path / name, elsewhere or "null")
        (folder / "attempt_1").mkdir()
        (folder / "config.yaml").rename(folder / "attempt_1" / "config.yaml")
        if content is not None:
            (folder / "config.yaml").write_bytes(content)
        write((elsewhere or folder / "validation") / "3.jsonl", [[1]])
        assert run_json(tmp_path / "x.json", folder)["reports"][0]["step"] is None


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "the file is empty"), (b'{"input": "a', "line 1: not valid JSON")]
)
def test_a_dump_that_was_cut_off_is_named_with_the_way_to_another(tmp_path, content, reason):
    folder = make_run(tmp_path / "run")
    write(folder / "validation" / "3.jsonl", [[1]])
    (folder / "validation" / "6.jsonl").write_bytes(content)
    message = refused(folder)
    assert "6.jsonl" in message and f"{reason}; repair it, or evaluate another one (of a run: --step N)" in message
    assert "math" in run(folder, "--step", 3)


def test_run_without_dumps_says_which_override_makes_them(tmp_path):
    text = refused(make_run(tmp_path / "run"))
    assert "the run has no generations" in text
    assert "trainer.test_freq=N or trainer.val_before_train=true" in text and "validation_data_dir" not in text
    text = refused(make_run(tmp_path / "gone", "/nowhere/dumps"))
    assert "trainer.validation_data_dir is /nowhere/dumps, where no STEP.jsonl lies" in text


def test_several_sources_are_compared_with_the_first(tmp_path):
    generator = np.random.default_rng(0)
    chances = generator.uniform(0.1, 0.6, size=(80, 1))
    before = write(tmp_path / "before.jsonl", generator.random((80, 4)) < chances)
    better = write(tmp_path / "better.jsonl", generator.random((80, 4)) < chances + 0.3)
    same = write(tmp_path / "same.jsonl", generator.random((90, 4)) < np.resize(chances, (90, 1)))
    write(same, [[1]], source="aime")
    document = run_json(tmp_path / "x.json", before, better, same)
    first, second = document["comparisons"]
    assert (first["first"], first["second"], second["second"]) == (str(before), str(better), str(same))
    gain = first["data_sources"]["math"]["metrics"]["mean"]
    assert gain["value"] == pytest.approx(value(document, "math", "mean", 1) - value(document, "math", "mean"))
    assert gain["low"] > 0 and gain["p_value"] < 0.02
    math = second["data_sources"]["math"]
    assert (math["questions"], math["left_out"]) == (80, 10)
    assert math["metrics"]["mean"]["p_value"] > 0.05
    assert second["data_sources"]["aime"] == {"questions": 0, "left_out": 1, "metrics": {}}
    text = run(before, same)
    assert f"{same} minus {before}" in text
    assert "math: left out because only one of the two has them: 10 questions" in text
    assert "aime: left out because only one of the two has them: 1 questions" in text


def test_too_few_questions_are_pointed_out(tmp_path):
    files = [write(tmp_path / name, [[right], [1]]) for name, right in (("a.jsonl", 0), ("b.jsonl", 1))]
    assert "math: 2 questions are too few for reliable intervals" in run(*files)


def test_metrics_that_only_one_file_has_are_not_compared(tmp_path):
    files = [write(tmp_path / "a.jsonl", [[0, 1]]), write(tmp_path / "b.jsonl", [[0, 1, 1]], answers=False)]
    (comparison,) = run_json(tmp_path / "x.json", *files, "--k", "2,3")["comparisons"]
    assert list(comparison["data_sources"]["math"]["metrics"]) == ["mean", "pass@2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/nope"], "nope: no such file or folder; give a JSONL"),
        (["{tmp}/empty"], "empty: no STEP.jsonl in it"),
        (["{tmp}/global_step_5"], "fsdp_config.json is missing: not an FSDP checkpoint, or incomplete"),
        (
            ["{tmp}/checkpoints"],
            "part of a checkpoint, or several checkpoints; give one, RUN/checkpoints/global_step_N",
        ),
        (["{tmp}/broken"], "config.yaml, line "),
        (["{tmp}/list"], "list/config.yaml"),
        (["{tmp}/bad.jsonl"], "bad.jsonl, line 1: not valid JSON"),
        (["{tmp}/a.jsonl", "--step", "3"], "--step chooses from a folder of dumps, and this is a file"),
        (["{tmp}/a.jsonl", "--k", "3"], "math: k=3 refused: 1 of 1 questions have fewer samples (fewest: 2)"),
        (["{tmp}/a.jsonl", "--k", "1,x"], "--k 1,x: 'x' is not an integer >= 1"),
        (["{tmp}/a.jsonl", "--k", "0"], "'0' is not an integer >= 1"),
        (["{tmp}/a.jsonl", "--resamples", "0"], "at least 1 resample"),
        (["{tmp}/a.jsonl", "--seed", "-1"], "a seed of at least 0"),
        (["{tmp}/a.jsonl", "{tmp}/empty/../a.jsonl"], "are the same file: "),
        (["{tmp}/a.jsonl", "{tmp}/other.jsonl"], "have no question in common"),
        (["{tmp}/a.jsonl", "--json", "{tmp}/bad.jsonl/x.json"], "bad.jsonl/x.json: File exists; choose another file"),
        (["{tmp}/nope", "--json", "{tmp}"], ": cannot be written; choose another file"),
    ],
)
def test_errors_are_one_line_and_code_2(tmp_path, arguments, message):
    write(tmp_path / "a.jsonl", [[1, 0]])
    write(tmp_path / "other.jsonl", [[1, 0]], source="aime")
    (tmp_path / "bad.jsonl").write_text("{\n")
    for name in ("empty", "global_step_5/actor", "broken", "list", "checkpoints"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "checkpoints" / "latest_checkpointed_iteration.txt").write_text("5")
    (tmp_path / "broken" / "config.yaml").write_text("a: [1\n")
    (tmp_path / "list" / "config.yaml").write_text("- 1\n")
    assert message in refused(*(argument.format(tmp=tmp_path) for argument in arguments))


def test_a_report_is_printed_even_if_its_json_cannot_be_written_after_all(tmp_path):
    result = invoke(write(tmp_path / "a.jsonl", [[1, 0]]), "--json", "/dev/full")
    assert result.exit_code == 2 and "mean@2" in result.stdout
    assert result.stderr == "error: --json /dev/full: No space left on device; choose another file\n"


def test_command_without_sources_fails():
    assert invoke().exit_code == 2
