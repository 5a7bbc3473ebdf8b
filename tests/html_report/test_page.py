"""The page of `reinforcepp report`: what it shows of a run, of several, of hostile texts and of damaged folders."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import time
from typing import Any

import pytest
from filelock import FileLock

from reinforcepp_verl.html_report import document
from reinforcepp_verl.html_report.document import build
from reinforcepp_verl.training_samples.record import Answer, PromptSample, Row

HOSTILE = (
    "</script></pre><script>alert(1)</script><img src=http://evil.test onerror=alert(1)>\x1b[31m\u202e\ud800&lt;<!--"
)
SHOWN = HOSTILE.replace("\x1b", r"\x1b").replace("\u202e", r"\u202e").replace("\ud800", r"\ud800")
MEGABYTE = 1_000_000
UNEVEN = json.dumps(
    {
        **{"step": 1, "prompt": "q", "sampled": 1, "mean_reward": 1, "reward_std": 0},
        "answers": [
            {
                **{"session": 0, "reward": 1, "length": 2, "end": "stopped"},
                "rows": [
                    {
                        **{"token_ids": [1, 2], "tokens": ["a", "b"], "mask": [1, 1]},
                        **{"engine_log_probs": [-1], "trainer_log_probs": [-1, -1]},
                    }
                ],
            }
        ],
    }
)
"""A sample with fewer log-probabilities than tokens."""


def dump(output: str, score: float, uid: str = "q_0_0", **more: Any) -> dict[str, Any]:
    return {"input": f"question {uid[0]}", "output": output, "gts": "4", "score": score, "uid": uid, "step": 1, **more}


def sample(step: int, *answers: Answer, prompt: str = "2 + 2 =") -> PromptSample:
    return PromptSample(step, prompt, list(answers), len(answers), 0.5, 0.5, ground_truth="4")


def answer(text: str = "4", reward: float = 1.0, **more: Any) -> Answer:
    row = Row(list(range(len(text))), list(text), [1] * len(text), advantages=[reward - 0.5] * len(text))
    return Answer(**{"session": 0, "reward": reward, "length": len(text), "end": "stopped", "rows": [row], **more})


def lines(page, part: str, title: str) -> list[dict]:
    return next(chart["lines"] for chart in page.data[part] if chart["title"] == title)


def test_a_run_has_its_outcome_curves_time_and_environment(make_run, page_of):
    run = make_run(validation={1: [dump("4", 1.0)]}, initial_val=0.25, final_val=0.5)
    page = page_of(run)
    assert "finished: 3 steps in 60 s, validation 0.250 -> 0.500" in page.text
    [reward] = lines(page, "curves", "Reward")
    assert reward["x"] == [1, 2, 3] and reward["y"] == [0.33333, 0.66667, 1.0]
    [times] = page.data["time"]
    assert times["names"] == ["generation", "update of the policy", "everything else"]
    assert times["y"] == [[6.0] * 3, [3.0] * 3, [1.0] * 3]
    assert str(run) in page.text and "trainer.experiment_name" in page.text


def test_the_page_is_one_file_that_may_load_and_run_nothing_else(make_run, page_of):
    page = page_of(make_run())
    assert "://" not in page.html.replace("pkg://", "")
    assert page.tags["script"] == 2 and page.tags["style"] == 1 and not page.tags["link"] and not page.tags["img"]
    assert all(link.startswith("#") for link in page.values("href"))
    policy = page.values("content")[0]
    assert policy.startswith("default-src 'none';")
    for kind, text in (("script", page.contents["script"][1]), ("style", page.contents["style"][0])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_ids_are_unique_and_every_section_is_linked(make_run, page_of):
    page = page_of(make_run())
    ids = page.values("id")
    assert len(ids) == len(set(ids)) and {link[1:] for link in page.values("href")} <= set(ids)
    assert page.tags["h1"] == page.tags["main"] == 1


def test_hostile_text_is_shown_as_text_everywhere(make_run, page_of):
    notes = {"parts": {HOSTILE[:40]: 1.0}, "texts": {"pred": HOSTILE[:80]}, "error": HOSTILE[:80]}
    safe_in_json = HOSTILE.replace("\ud800", "")
    samples = [sample(1, answer(safe_in_json), answer(end="truncated", **notes), prompt=safe_in_json)]
    validation = {1: [dump(HOSTILE, 1.0, pred=HOSTILE), {**dump("4", 0.0), "input": HOSTILE, "gts": HOSTILE}]}
    run = make_run(
        "<b>&'\"",
        experiment=safe_in_json,
        config={"key": safe_in_json, "<i>": [HOSTILE[:90]]},
        samples=samples,
        validation=validation,
        status="<b>",
        error=HOSTILE,
        directory=HOSTILE,
    )
    (run / "warnings.txt").write_text(HOSTILE.replace("\ud800", "") + "\n")
    (run / "samples" / "2.jsonl").write_text("{")
    page = page_of(run, make_run("other"))
    assert (page.tags["script"], page.tags["style"], page.tags["img"], page.tags["b"], page.tags["i>"]) == (
        2,
        1,
        0,
        0,
        0,
    )
    assert not [name for _, name, _ in page.attributes if name.startswith("on") or name in ("src", "srcdoc", "action")]
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\ud800-\udfff]", page.html)
    assert "<" not in page.contents["script"][0] and ">" not in page.contents["script"][0]
    assert SHOWN in page.text  # the error
    shown = [group for each in page.data["answers"] for step in each["steps"] for group in step["groups"]]
    assert SHOWN in {one["text"] for group in shown for one in group["answers"] if "text" in one}
    tokens = {"".join(one["rows"][0]["tokens"]) for group in shown for one in group["answers"] if "rows" in one}
    assert SHOWN.replace(r"\ud800", "") in tokens


def test_answers_are_grouped_and_told_apart(make_run, page_of):
    kinds = [
        answer("right"),
        answer("wrong", 0.0),
        answer("cut", 0.0, end="truncated"),
        answer("late", -1.0, error="timeout"),
    ]
    samples = [sample(1, answer("only right")), sample(2, *kinds)]
    validation = {5: [dump("4", 1.0), dump("5", 0.0, "q_1_0"), dump("", 0.0, "r_0_0", reward_error=1.0)]}
    page = page_of(make_run(samples=samples, validation=validation))
    training, validated = page.data["answers"]
    assert [step["step"] for step in training["steps"]] == [1, 2]
    [group] = training["steps"][1]["groups"]
    assert [one["kinds"] for one in group["answers"]] == [["right"], ["wrong"], ["wrong", "truncated"], ["error"]]
    assert group["answers"][0]["rows"][0]["advantages"] == [0.5] * 5 and group["truth"] == "4"
    # The group with an error comes first.
    assert [[one["kinds"] for one in g["answers"]] for g in validated["steps"][0]["groups"]] == [
        [["error"]],
        [["right"], ["wrong"]],
    ]


def test_the_gap_between_engine_and_trainer_leaves_out_what_the_engine_has_not_sampled(make_run, page_of):
    row = Row([1, 2, 3, 4], list("abcd"), [1, 0, 0, 1], None, None, [-1.0, -3.0, -2.0, None], [-1.5, 0.0, -2.5, -1.0])
    page = page_of(make_run(samples=[sample(1, answer(rows=[row]))]))
    [group] = page.data["answers"][0]["steps"][0]["groups"]
    assert group["answers"][0]["rows"][0]["gap"] == [-0.5, None, -0.5, None]


def test_rewards_that_are_no_grades_have_no_accuracy_but_are_shown(make_run, page_of):
    page = page_of(make_run(validation={1: [dump("long", 0.37), dump("longer", -2.5, "q_1_0")]}))
    assert not page.data["accuracy"] and "score is 0.37" in page.text
    [group] = page.data["answers"][0]["steps"][0]["groups"]
    assert [(one["reward"], one["kinds"]) for one in group["answers"]] == [(0.37, ["right"]), (-2.5, ["wrong"])]


def test_numbers_of_any_size_are_read(make_run, page_of):
    lines_ = [dump("a", 10**400, acc=True, pred=2**70), dump("b", math.nan, "q_1_0")]
    [group] = page_of(make_run(validation={1: lines_})).data["answers"][0]["steps"][0]["groups"]
    assert [(one["reward"], one["kinds"]) for one in group["answers"]] == [(None, ["right"]), (None, ["wrong"])]
    assert group["answers"][0]["notes"] == {"pred": str(2**70)}


def test_accuracy_has_the_mean_and_pass_at_k_with_intervals(make_run, page_of):
    graded = [dump("x", float(n < right), f"{q}_{n}_0") for q, right in (("q", 4), ("r", 2)) for n in range(4)]
    page = page_of(make_run(validation={0: graded, 7: graded}))
    [chart] = page.data["accuracy"]
    assert [line["label"] for line in chart["lines"]] == ["mean", "pass@2", "pass@4"]
    # 1 - C(2, 2) / C(4, 2) = 5/6 for the second question.
    assert [line["y"] for line in chart["lines"]] == [[0.75, 0.75], [0.91667, 0.91667], [1.0, 1.0]]
    assert all(
        low <= y <= high
        for line in chart["lines"]
        for low, y, high in zip(line["low"], line["y"], line["high"], strict=True)
    )


def test_seeds_are_a_band_and_what_differs_comes_first(make_run, page_of):
    runs = [make_run(f"seed{seed}", seed=seed) for seed in (1, 2)] + [make_run("other", experiment="theirs")]
    page = page_of(*runs)
    thin, also_thin, mean, other = lines(page, "curves", "Reward")
    assert (thin["thin"], also_thin["thin"], mean["label"]) == (True, True, "mine (mean of 2 seeds, band: min to max)")
    assert mean["low"] == mean["high"] == mean["y"] and (mean["color"], other["color"]) == (0, 1)
    different = page.html.partition("What differs")[2].partition("</table>")[0]
    assert re.findall(r'<th scope="row"><code>(.*?)</code>', different) == ["seed", "trainer.experiment_name"]
    assert len(page.data["time"]) == 3


def test_without_validation_and_samples_the_sections_say_so(make_run, page_of):
    page = page_of(make_run())
    assert page.data["answers"] == page.data["accuracy"] == page.data["histograms"] == []
    assert "No answers are kept" in page.text and "No accuracy" in page.text


def test_a_failed_run_has_its_error(make_run, page_of):
    run = make_run(steps=0, status="failed", error="RuntimeError: out of memory\nfix: a smaller batch")
    (run / "metrics.jsonl").unlink()
    page = page_of(run)
    assert "failed: 0 steps" in page.text and "fix: a smaller batch" in page.text
    assert "No step is recorded yet" in page.text and "damaged" not in page.text


@pytest.mark.parametrize(
    ("status", "locked", "age_s", "said", "going_on"),
    [
        ("running", True, 10**6, "running: 3 of 9 steps", True),
        ("running", False, 0, "running: 3 of 9 steps", True),
        ("running", False, 10**6, "killed, or without a sign of life for 15 minutes; running: 3 of 9", False),
        ("created", False, 10**6, "created: 3 of 9 steps", True),
        ("stopped", False, 0, "stopped: 3 steps", False),
    ],
)
def test_a_run_that_has_not_finished(make_run, status, locked, age_s, said, going_on):
    run = make_run(status=status, config={"trainer": {"total_training_steps": 9}})
    for file in run.iterdir():
        os.utime(file, (time.time() - age_s,) * 2)
    lock = FileLock(run / ".lock")
    if locked:
        lock.acquire()
    try:
        made = build([run])
    finally:
        lock.release()
    assert said in made.html.decode() and made.going_on is going_on


@pytest.mark.parametrize(
    ("file", "damage", "named"),
    [
        ("metrics.jsonl", '{"step": 1, "x": 1}\ngarbage\n{"step": 3}\n', "metrics.jsonl, line 2"),
        ("summary.json", "{", "summary.json"),
        ("config.yaml", "a: [\n", "config.yaml"),
        ("samples/1.jsonl", "{}\n", "samples/1.jsonl, line 1"),
        ("samples/1.jsonl", UNEVEN, "samples/1.jsonl: an answer without one value per token"),
        ("validation/1.jsonl", '{"input": "q", "output": "a"', "validation/1.jsonl, line 1"),
    ],
)
def test_a_damaged_file_is_named_and_hides_nothing_else(make_run, page_of, file, damage, named):
    bad = make_run("bad", samples=[sample(1, answer())], validation={1: [dump("4", 1.0)], 2: [dump("4", 1.0)]})
    good = make_run("good", experiment="theirs", validation={1: [dump("good answer", 1.0)]})
    (bad / file).write_text(damage)
    made = build([bad, good])
    assert any(named in problem for problem in made.problems)
    page = page_of(bad, good)
    assert named in page.text
    assert any(line["label"] == "theirs" for line in lines(page, "curves", "Reward"))
    assert {(each["run"], each["kind"]) for each in page.data["answers"]} >= {
        ("bad", "validation"),
        ("good", "validation"),
    }


def test_no_answer_is_too_large_for_the_page(make_run, monkeypatch):
    monkeypatch.setattr(document, "ANSWER_BYTES", 200_000)
    large = [answer("<" * 5000, float(n)) for n in range(40)]
    validation = {step: [dump("<>" * 50_000, 1.0, f"q_{n}_0") for n in range(20)] for step in (1, 2)}
    made = build([make_run(samples=[sample(step, *large) for step in range(1, 6)], validation=validation)])
    assert len(made.html) < 400_000
    assert b'"groups":[{' in made.html


def test_ten_thousand_steps_make_at_most_15_mb(make_run):
    tokens = ["word " * 100] * 40
    row = Row([1] * 40, tokens, [1] * 40, advantages=[0.5] * 40)
    large = [answer(rows=[row], length=40) for _ in range(16)]
    run = make_run(
        steps=10_000,
        samples=[sample(1, *large)],
        validation={10: [dump("x" * 4000, 1.0, f"q_{n}_0") for n in range(64)]},
    )
    for step in range(2, 10_001, 100):
        os.link(run / "samples" / "1.jsonl", run / "samples" / f"{step}.jsonl")
        os.link(run / "validation" / "10.jsonl", run / "validation" / f"{10 * step}.jsonl")
    made = build([run])
    assert len(made.html) < 15 * MEGABYTE


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_browser_draws_it(make_run, tmp_path):
    samples = [sample(1, answer(HOSTILE.replace("\ud800", "")), answer("5", 0.0))]
    run = make_run(samples=samples, validation={1: [dump("4", 1.0)]})
    (tmp_path / "page.html").write_bytes(build([run]).html)
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--dump-dom", f"file://{tmp_path}/page.html"]
    drawn = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert drawn.count("<figure>") >= 4 and drawn.count('class="line') == 2 and 'class="cell"' in drawn
    assert '<section class="answer right">' in drawn and "&lt;/script&gt;" in drawn
