"""Scores of steps through a real run: every return is what the text of the answer says, minus the KL."""

from __future__ import annotations

import json
import math
import sys
from itertools import accumulate
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from reinforcepp_verl.runs import processes
from reinforcepp_verl.tasks.running_sums_model import RunningSumsWarmStart
from reinforcepp_verl.tasks.running_sums_task import TASK

pytestmark = [pytest.mark.e2e, pytest.mark.long]

COMMAND = Path(sys.executable).with_name("reinforcepp")
HELPERS = Path(__file__).parents[2] / "benchmarks" / "helpers"
STEPS, KL_COEF = 3, 0.1
ROWS = 24 * 4
VALIDATION = "val-core/reinforcepp/running_sums"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with data/running_sums in it, whose model has learned for a few seconds."""
    folder = tmp_path_factory.mktemp("workplace")
    TASK.prepare(folder / "data" / "running_sums", settings=RunningSumsWarmStart(careful_steps=150, sloppy_steps=0))
    return folder


def slow_scores(numbers: list[int], text: str) -> dict[int, float]:
    """Score the characters of an answer by reading it once; not the reward function's code."""
    scores: dict[int, float] = {}
    steps, word, before = 0, "", numbers[0]
    for place, letter in enumerate(text):
        word += letter
        if letter != ";" and place < len(text) - 1:
            continue
        digits = word[:-1] if letter == ";" else ""
        written = int(digits) if digits.isdigit() and str(int(digits)) == digits else None
        if steps + 1 >= len(numbers):
            right = -1
        else:
            right = int(written is not None and before is not None and written == before + numbers[steps + 1])
        scores[place] = right / (len(numbers) - 1)
        steps, word, before = steps + 1, "", written
    return scores


def last_sum_is_right(numbers: list[int], text: str) -> bool:
    *sums, rest = text.split(";")
    are_numbers = all(part.isdigit() and str(int(part)) == part for part in sums)
    return rest == "" and are_numbers and len(sums) == len(numbers) - 1 and int(sums[-1]) == sum(numbers)


def numbers_of(prompt: str) -> list[int]:
    return [int(number) for number in prompt.removeprefix("<bos>").removesuffix("=").split("+")]


class Answer:
    """One row of a recorded batch, with what a slow reading of its text expects."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, row: dict[str, list]):
        self.row, ids = row, row["responses"]
        numbers = numbers_of(tokenizer.decode(row["prompts"]))
        carries_text = [token for token, token_id in enumerate(ids) if token_id not in tokenizer.all_special_ids]
        text = tokenizer.decode([ids[token] for token in carries_text])
        assert len(text) == len(carries_text), "every token is a character"
        self.numbers, self.text = numbers, text
        scores = {carries_text[place]: score for place, score in slow_scores(numbers, text).items()}
        # An answer of no character has an outcome score of 0.
        self.marks = sorted(scores)
        self.scores = [scores.get(token, 0.0) for token in range(len(ids))]
        gaps = [old - ref for old, ref in zip(row["old_log_probs"], row["ref_log_prob"], strict=True)]
        self.kl = [KL_COEF * gap for gap in gaps]
        to_go = accumulate(reversed([score - kl for score, kl in zip(self.scores, self.kl, strict=True)]))
        self.returns = list(to_go)[::-1]


def near(expected: list[float]) -> object:
    return pytest.approx(expected, abs=2e-5)


def recorded(run: Path, step: int, tokenizer: PreTrainedTokenizerFast) -> list[Answer]:
    kept = torch.load(run / "batches" / f"{step}.pt")
    assert all(kept.pop("real")) and len(kept.pop("keys")) == ROWS
    columns = {name: [row.tolist() for row in column] for name, column in kept.items()}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [Answer(tokenizer, row) for row in rows]


def assert_every_token_has_what_its_steps_say(answers: list[Answer]) -> None:
    for answer in answers:
        assert answer.row["response_mask"] == [1] * len(answer.returns)
        assert answer.row["rm_scores"] == near(answer.scores), answer.text
        assert [token for token, mark in enumerate(answer.row["score_mask"]) if mark] == answer.marks, answer.text
        assert answer.row["returns"] == near(answer.returns), answer.text
    tokens = [value for answer in answers for value in answer.returns]
    mean = math.fsum(tokens) / len(tokens)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in tokens) / len(tokens))
    for answer in answers:
        assert answer.row["advantages"] == near([(value - mean) / deviation for value in answer.returns])


def test_every_return_is_what_the_steps_say_minus_the_kl(start, workplace):
    overrides = [f"trainer.total_training_steps={STEPS}", f"trainer.test_freq={STEPS}", "trainer.save_freq=-1"]
    overrides += [f"algorithm.kl_ctrl.kl_coef={KL_COEF}"]
    recording = {"PYTHONPATH": str(HELPERS), "VERL_USE_EXTERNAL_MODULES": "keep_batches"}
    start(COMMAND, "train", "+recipe=math_rlvr/running_sums", *overrides, **recording).output()
    run = (workplace / "runs" / "latest").resolve()
    tokenizer = AutoTokenizer.from_pretrained(workplace / "data" / "running_sums" / "model")
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in metrics] == list(range(STEPS + 1))

    seen: list[Answer] = []
    for step in range(1, STEPS + 1):
        answers = recorded(run, step, tokenizer)
        assert_every_token_has_what_its_steps_say(answers)
        scores = [math.fsum(answer.scores) for answer in answers]
        assert metrics[step]["critic/score/mean"] == pytest.approx(math.fsum(scores) / ROWS, abs=1e-5)
        assert metrics[step]["reward/error_rate"] == 0
        seen += answers
    # What makes the comparison one: answers with some steps right, and a KL that is not 0 once the policy has moved.
    assert {len(answer.marks) for answer in seen} >= {3}
    assert any(len({score for score in answer.scores if score}) == 1 and 0 < sum(answer.scores) < 1 for answer in seen)
    assert max(abs(penalty) for answer in seen[ROWS:] for penalty in answer.kl) > 1e-3

    for step in (0, STEPS):
        validated = [json.loads(line) for line in (run / "validation" / f"{step}.jsonl").read_text().splitlines()]
        for answer in validated:
            numbers, text = numbers_of(answer["input"]), answer["pred"]
            assert answer["score"] == pytest.approx(math.fsum(slow_scores(numbers, text).values()), abs=1e-6)
            assert answer["acc"] == last_sum_is_right(numbers, text), text
        acc = math.fsum(answer["acc"] for answer in validated) / len(validated)
        assert metrics[step][f"{VALIDATION}/acc/mean@1"] == pytest.approx(acc)
    assert not processes.find_all(str(run))
