"""The full pipeline by commands: GSM8K's and MATH's formats prepared, checked, trained on, evaluated, exported."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from reinforcepp_verl.data import prompt_templates
from reinforcepp_verl.rewards.verifier import compare_plain, normal_form
from reinforcepp_verl.runs import processes
from reinforcepp_verl.tasks.word_problems_task import TEMPLATE
from reinforcepp_verl.tasks.word_templates import FORMATS

pytestmark = [pytest.mark.e2e, pytest.mark.long]

COMMAND = Path(sys.executable).with_name("reinforcepp")
STEPS = 15
SOURCES = [f"word_problems/{name}" for name in FORMATS]
# Accuracy of 256 answers per source: the standard error of an increase is at most 0.044 for one and 0.031 for both.
GAIN_OF_EACH, GAIN_OF_BOTH = 0.1, 0.25
# Two validations of the same weights: five standard errors of a difference for both.
SAME_ACCURACY = 0.155


@pytest.fixture
def reinforcepp(start, workplace) -> Callable[..., str]:
    """Return a function that runs the command to its successful end and returns what it printed."""

    def run(*arguments: str) -> str:
        return start(COMMAND, *arguments).output()

    return run


def jsonl(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def needed_a_worker(answer: dict) -> bool:
    """Return True if only math-verify, in a worker process, could compare the answer."""
    return compare_plain(normal_form(answer["gts"]), normal_form(answer["pred"])) is None


def means(report: dict) -> dict[str, float]:
    return {source: part["metrics"]["mean"]["value"] for source, part in report["data_sources"].items()}


def test_prepared_formats_train_evaluate_and_export(reinforcepp, workplace, tmp_path):
    recipe = ["+recipe=math_rlvr/word_problems", f"trainer.total_training_steps={STEPS}"]
    recipe += [f"trainer.test_freq={STEPS}", f"trainer.save_freq={STEPS}"]
    reinforcepp("prepare", "word_problems")
    reinforcepp("check", *recipe)
    output = reinforcepp("train", *recipe)
    run = (workplace / "runs" / "latest").resolve()

    records = jsonl(run / "metrics.jsonl")
    assert [record["step"] for record in records] == list(range(STEPS + 1))
    assert all(record["actor/grad_norm"] > 0 for record in records[1:])
    assert all(record["training/rollout_probs_diff_mean"] < 1e-4 for record in records[1:])
    accuracy = {source: f"val-core/{source}/acc/mean@1" for source in SOURCES}
    rises = [records[-1][metric] - records[0][metric] for metric in accuracy.values()]
    assert min(rises) > GAIN_OF_EACH and fmean(rises) > GAIN_OF_BOTH

    summary = json.loads((run / "summary.json").read_text())
    assert (summary["status"], summary["steps"], summary["seed"]) == ("finished", STEPS, 1)
    for name, record in (("initial_val", records[0]), ("final_val", records[-1])):
        assert summary[name] == pytest.approx(fmean(record[metric] for metric in accuracy.values()))
    assert 0 < summary["step_seconds_median"] < summary["seconds"]
    files = {path.name for path in run.iterdir()}
    assert {"config.yaml", "metrics.jsonl", "train.log", "curves.png", "validation", "checkpoints"} <= files

    answers = [answer for step in (0, STEPS) for answer in jsonl(run / "validation" / f"{step}.jsonl")]
    assert not {answer["error"] for answer in answers} & {"timeout", "crashed", "memory"}
    by_worker = [answer for answer in answers if needed_a_worker(answer)]
    assert {answer["acc"] for answer in by_worker} == {0.0, 1.0}
    assert any(answer["acc"] and "frac" in answer["pred"] for answer in answers)

    checkpoint = f"runs/latest/checkpoints/global_step_{STEPS}"
    reinforcepp("eval", "runs/latest", checkpoint, "--set", "seed=2", "--json", str(tmp_path / "eval.json"))
    validated, generated = json.loads((tmp_path / "eval.json").read_text())["reports"]
    assert (validated["step"], generated["step"]) == (STEPS, STEPS)
    assert means(validated) == pytest.approx({source: records[-1][metric] for source, metric in accuracy.items()})
    assert means(generated).keys() == means(validated).keys()
    assert fmean(means(generated).values()) == pytest.approx(fmean(means(validated).values()), abs=SAME_ACCURACY)
    assert Path(generated["file"]).is_relative_to(run / "evaluations")

    reinforcepp("export", "runs/latest", "--out", str(tmp_path / "model"), "--dtype", "float32")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    chat = prompt_templates.find(TEMPLATE).chat("Ada has 3 eggs and buys 4 more. How many eggs does Ada have?")
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    text = tokenizer.decode(model.generate(**prompt, max_new_tokens=32, do_sample=False)[0], skip_special_tokens=True)
    assert r"\boxed{" in text

    assert "val acc" in output and "WorkerDict" not in output
    assert not processes.find_all(str(run))
