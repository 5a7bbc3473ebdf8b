"""Methods train through real verl, and state across batches survives a resume."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from reinforcepp_verl.config import search_path
from reinforcepp_verl.runs import processes

pytestmark = [pytest.mark.e2e, pytest.mark.long]

COMMAND = Path(sys.executable).with_name("reinforcepp")
METHODS = sorted(file.stem for file in (search_path.config_dir() / "method").glob("*.yaml"))
METHODS_OF_VERL = ("grpo", "ppo", "rloo_verl")
SHORT = ["trainer.val_before_train=false", "trainer.test_freq=-1", "actor_rollout_ref.rollout.agent.num_workers=1"]
STEPS = 3
# The run of this method also drops rows, tolerates errors of the reward, keeps running statistics and saves them.
STATEFUL = "reinforcepp_baseline"
STATE_OPTIONS = [
    "algorithm.reinforcepp.statistics=running",
    "algorithm.reinforcepp.reward_norm=running",
    "algorithm.reinforcepp.nonfinite=drop",
    "reward_errors.max_rate=0.5",
]

SOMETIMES_NAN = """
import random
def compute_score(data_source, solution_str, ground_truth, extra_info=None, **_):
    if random.random() < 0.05:
        raise KeyError("verdict")
    score = float(solution_str.strip() == ground_truth.strip())
    return {"score": float("nan") if random.random() < 0.1 else score, "acc": score}
"""


class Runs:
    """Trains in the workplace, each run in its own runs_dir, and ends remaining processes."""

    def __init__(self, workplace: Path):
        self.workplace, self.started = workplace, []
        self.reward = workplace / "sometimes_nan.py"
        self.reward.write_text(SOMETIMES_NAN)
        self._of_method: dict[str, tuple[Path, list[dict]]] = {}

    def of(self, method: str) -> tuple[Path, list[dict]]:
        """Return the only run of a method, trained on first use: its folder and its records."""
        if method not in self._of_method:
            options = [f"+method={method}", f"trainer.total_training_steps={STEPS}"]
            if method == STATEFUL:
                options += [*STATE_OPTIONS, f"trainer.save_freq={STEPS}"]
                options += [f"reward.custom_reward_function.path={self.reward}"]
            self._of_method[method] = self.train(method, *options)
        return self._of_method[method]

    def train(self, name: str, *overrides: str) -> tuple[Path, list[dict]]:
        """Train to the end; return the run's folder and its records."""
        process = subprocess.Popen(
            [COMMAND, "train", "+recipe=math_rlvr/arithmetic", *overrides, *SHORT, f"runs_dir=runs_of_{name}"],
            cwd=self.workplace,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, processes.RUN_VARIABLE: str(self.workplace)},
        )
        self.started.append((process, name))
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output
        run = (self.workplace / f"runs_of_{name}" / "latest").resolve()
        return run, [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]

    def end(self) -> None:
        for process, name in self.started:
            if process.poll() is None:
                process.kill()
            if (latest := self.workplace / f"runs_of_{name}" / "latest").exists():
                processes.terminate_all(str(latest.resolve()))


@pytest.fixture(scope="module")
def runs(workplace: Path) -> Iterator[Runs]:
    started = Runs(workplace)
    yield started
    started.end()


@pytest.mark.parametrize("method", METHODS)
def test_method_trains(runs, method):
    run, records = runs.of(method)
    assert [record["step"] for record in records] == [1, 2, 3]
    for record in records:
        assert record["actor/grad_norm"] > 0
        assert all(math.isfinite(value) for value in record.values()), record
        ours = "reinforcepp/effective_samples" in record
        assert ours == (method not in METHODS_OF_VERL)
    if method == "remax":
        assert all(record["reinforcepp/rows_without_greedy_answer/sum"] == 0 for record in records)
    if method == "flash_reinforce":
        assert all(record["reinforcepp/gated_tokens"] == 0 for record in records)
        assert all(abs(record["reinforcepp/rollout_divergence"]) < 1e-5 for record in records)
    assert not processes.find_all(str(run))


def memory_in(checkpoint: Path) -> dict:
    return json.loads((checkpoint / "reinforcepp_state.json").read_text())["memory"]


def test_dropped_rows_affect_no_others_and_running_statistics_survive_a_resume(runs):
    run, records = runs.of(STATEFUL)
    assert sum(record["reinforcepp/dropped_rows/sum"] for record in records) > 0
    assert sum(record["reward/error_rate"] for record in records) > 0
    assert all(math.isfinite(value) for record in records for value in record.values())
    checkpoint = run / "checkpoints" / f"global_step_{STEPS}"
    saved = memory_in(checkpoint)
    assert len(saved["window"]) == STEPS
    usable = STEPS * 24 * 4 - sum(record["reinforcepp/dropped_rows/sum"] for record in records)
    assert saved["scores"]["count"] == usable

    resumed, records = runs.train(
        "resumed",
        *[f"+method={STATEFUL}", *STATE_OPTIONS],
        *[f"trainer.total_training_steps={STEPS + 1}", f"trainer.save_freq={STEPS + 1}"],
        *["trainer.resume_mode=resume_path", f"trainer.resume_from_path={checkpoint}"],
    )
    assert [record["step"] for record in records] == [STEPS + 1]
    after = memory_in(resumed / "checkpoints" / f"global_step_{STEPS + 1}")
    assert after["window"][:-1] == saved["window"]
    assert after["scores"]["count"] == usable + 24 * 4


def test_a_saved_checkpoint_becomes_a_plain_model(runs, workplace, tmp_path):
    run, _ = runs.of(STATEFUL)
    command = [COMMAND, "export", run, "--out", tmp_path / "model", "--dtype", "float32"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "equal bit for bit" in done.stdout and "merger" not in done.stdout
    manifest = json.loads((tmp_path / "model" / "export.json").read_text())
    assert (manifest["run"], manifest["step"], manifest["dtype"]) == (run.name, STEPS, "float32")
    assert manifest["check"]["from_rounding"] == 0

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "12+34="}], return_tensors="pt")["input_ids"]
    trained, start = (
        AutoModelForCausalLM.from_pretrained(folder)(prompt).logits
        for folder in (tmp_path / "model", workplace / "data" / "arithmetic" / "model")
    )
    assert trained.isfinite().all() and not torch.equal(trained, start)
