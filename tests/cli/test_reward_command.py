"""`reinforcepp reward try`: a recipe's reward on answers from a file, through verl's reward manager."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reinforcepp_verl.cli import app
from reinforcepp_verl.evaluation.tried_answers import read_answers
from reinforcepp_verl.tasks.small_tokenizer import of_characters

RECIPE = "+recipe=math_rlvr/arithmetic"
PATH = "reward.custom_reward_function.path"
SERVED = ("reward.reward_model.enable=true", "reward.reward_model.enable_resource_pool=true")
HOSTILE = "<script>\u202e\x1b[2J" + "a" * 100_000
SHOWS_FACTS = """
def compute_score(data_source, solution_str, ground_truth, extra_info=None, **_):
    if solution_str == "fail":
        raise KeyError("verdict")
    seen = f"{data_source} {extra_info['mine']} {extra_info['response_tokens']} {extra_info['truncated']}"
    return {"score": 0.5, "acc": 1.0, "seen": seen}
"""


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    of_characters(string.printable).save_pretrained("model")
    return tmp_path


def try_answers(answers: list[dict], *arguments: str):
    Path("answers.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    model = "actor_rollout_ref.model.path=model"
    return CliRunner().invoke(app, ["reward", "try", "answers.jsonl", RECIPE, model, *arguments])


def test_it_shows_the_score_and_what_was_found(workplace):
    result = try_answers([{"answer": "12", "ground_truth": "12"}, {"output": "13", "gts": "12", "score": 1.0}])
    assert result.exit_code == 0, result.output
    assert "line 1: score 1, acc 1, pred 12\n" in result.output
    assert "line 2: score 0 (in the file 1), acc 0, pred 13\n  ground truth  12\n  answer        13\n" in result.output
    assert "mean acc                │ 0.5" in result.output and "other score in the file │ 1" in result.output


def test_the_function_gets_what_it_gets_in_a_run_and_its_errors_are_shown(workplace):
    (workplace / "mine.py").write_text(SHOWS_FACTS)
    facts = {"data_source": "quiz", "extra_info": {"mine": 7}}
    answers = [{"answer": text, "ground_truth": "1", **facts} for text in ("abc", "fail")]
    result = try_answers(answers, f"{PATH}=mine.py", "--json", "out.json")
    assert result.exit_code == 0, result.output
    first, second = json.loads((workplace / "out.json").read_text())["answers"]
    assert (first["line"], first["score"], first["seen"]) == (1, 0.5, "quiz 7 4 False")
    assert (second["score"], second["error"]) == (0.0, "error: KeyError: 'verdict'")
    assert "│ error: KeyError: 'verdict' │ 1" in result.output


def test_it_filters_and_limits(workplace):
    answers = [{"answer": str(number), "ground_truth": "3", "score": 0} for number in range(5)]
    wrong = try_answers(answers, "--wrong", "--limit", "2").output
    assert "line 1:" in wrong and "line 2:" in wrong and "line 3:" not in wrong
    assert "and 2 more; --limit shows more of them" in wrong
    changed = try_answers(answers, "--changed").output
    assert "line 4: score 1 (in the file 0)" in changed and "line 1:" not in changed


def test_a_line_ends_only_at_a_newline(workplace):
    text = "1\u20282"  # a line separator, which JSON may hold as it is
    Path("answers.jsonl").write_text(json.dumps({"answer": text, "ground_truth": text}, ensure_ascii=False))
    assert [each.answer for each in read_answers(Path("answers.jsonl"))] == [text]


def test_text_cannot_move_the_cursor(workplace):
    output = try_answers([{"answer": HOSTILE, "ground_truth": HOSTILE}]).output
    assert "\x1b[2J" not in output and "\u202e" not in output and len(output) < 2000


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "answers.jsonl: no line in it; write one JSON object per line"),
        ("[1]", "answers.jsonl, line 1: not a JSON object"),
        ("{", "answers.jsonl, line 1: not valid JSON; write one JSON object per line"),
        ('{"answer": 1}', "answers.jsonl, line 1: has no text as answer"),
        ('{"answer": "1"}', "answers.jsonl, line 1: has no ground_truth"),
        ('{"answer": "1", "ground_truth": "1", "extra_info": 3}', "line 1: extra_info is not an object"),
    ],
)
def test_a_file_that_it_cannot_read_is_one_line(workplace, line, says):
    Path("answers.jsonl").write_text(line)
    result = CliRunner().invoke(app, ["reward", "try", "answers.jsonl", RECIPE])
    assert result.exit_code == 2 and says in result.stderr
    assert result.stderr.count("error: ") == 1


def test_what_it_cannot_call_is_refused(workplace):
    answers = [{"answer": "1", "ground_truth": "1"}]
    assert "nothing.py: no such module or file" in try_answers(answers, f"{PATH}=nothing.py").stderr
    assert "only a run serves the reward model" in try_answers(answers, *SERVED).stderr
    missing = try_answers(answers, "actor_rollout_ref.model.path=nowhere")
    assert missing.exit_code == 2 and "actor_rollout_ref.model.path is nowhere: its tokenizer" in missing.stderr
