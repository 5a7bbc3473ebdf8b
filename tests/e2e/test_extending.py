"""A user's own estimator and loss through our command; killed and resumed."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import pytest
from omegaconf import OmegaConf

from reinforcepp_verl.checkpoints import store
from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.runs import processes
from reinforcepp_verl.tasks.arithmetic_model import AdditionWarmStart
from reinforcepp_verl.tasks.arithmetic_task import TASK
from reinforcepp_verl.training_samples.files import SampleFiles

pytestmark = pytest.mark.e2e

COMMAND = Path(sys.executable).with_name("reinforcepp")
RECIPE = "+recipe=math_rlvr/arithmetic"
SAMPLES = ("samples.groups_per_step=24", "samples.console_every=1")
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
POLICY_LOSS = "actor_rollout_ref.actor.policy_loss"
# The same answer always gets the same score: a resumed run repeats steps.
SOMETIMES_NAN = """
import zlib
def compute_score(data_source, solution_str, ground_truth, extra_info=None, **_):
    score = float(solution_str.strip() == ground_truth.strip())
    return float("nan") if zlib.crc32((solution_str + ground_truth).encode()) % 10 == 0 else score
"""


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with data/arithmetic in it, whose model has learned for a few seconds."""
    folder = tmp_path_factory.mktemp("workplace")
    TASK.prepare(folder / "data" / "arithmetic", settings=AdditionWarmStart(careful_steps=150, sloppy_steps=0))
    return folder


def window(checkpoint: Path) -> list:
    """Return the batches whose statistics a checkpoint holds."""
    return json.loads((checkpoint / store.STATE_FILE).read_text())["memory"]["window"]


@pytest.fixture
def environment() -> dict[str, str]:
    return {
        "PYTHONPATH": f"{EXAMPLES}{os.pathsep}{ROOT / 'benchmarks' / 'helpers'}",
        "VERL_USE_EXTERNAL_MODULES": "my_estimator,my_loss",
    }


@pytest.fixture
def overrides(tmp_path: Path) -> list[str]:
    reward = tmp_path / "sometimes_nan.py"
    reward.write_text(SOMETIMES_NAN)
    return [
        *(RECIPE, f"runs_dir={tmp_path}", "trainer.val_before_train=false", "trainer.test_freq=-1"),
        *("algorithm.adv_estimator=group_returns", "algorithm.reinforcepp.nonfinite=drop"),
        *(f"{POLICY_LOSS}.loss_mode=spo", f"{POLICY_LOSS}.options.epsilon=0.3", "guards.max_kl=10"),
        *("algorithm.reinforcepp.statistics=running", f"reward.custom_reward_function.path={reward}"),
    ]


def assert_both_were_used(records: dict[int, dict]) -> None:
    for record in records.values():
        assert record["group_returns/largest_baseline"] > 0
        assert record["actor/spo/epsilon"] == pytest.approx(0.3)
        assert record["actor/spo/penalty"] > 0 and record["actor/grad_norm"] > 0
        assert all(math.isfinite(value) for value in record.values()), record
    assert sum(record["reinforcepp/dropped_rows/sum"] for record in records.values()) > 0


def assert_samples_agree(run: RunFolder, records: dict[int, dict]) -> None:
    """All answers of the run are kept, so that their means are the metrics."""
    files = SampleFiles(run.samples)
    assert files.steps() == list(records)
    for step, record in records.items():
        answers = [answer for sample in files.read(step) for answer in sample.answers]
        trained = [answer for answer in answers if not answer.dropped]
        right = [answer.length for answer in trained if answer.is_right]
        assert len(answers) == 24 * 4
        assert len(answers) - len(trained) == record["reinforcepp/dropped_rows/sum"]
        assert sum(answer.reward for answer in trained) / len(answers) == pytest.approx(record["critic/score/mean"])
        assert fmean(answer.length for answer in answers) == pytest.approx(record["response_length/mean"])
        assert fmean(right) == pytest.approx(record["reinforcepp/length_right"])
        tokens = sum(answer.length for answer in trained)
        assert sum(answer.kl for answer in trained) / tokens == pytest.approx(record["reinforcepp/kl"], abs=1e-4)
        by_token = sum(answer.advantage * answer.length for answer in trained) / tokens
        assert by_token == pytest.approx(record["critic/advantages/mean"], abs=1e-4)
        rows = [row for answer in trained for row in answer.rows]
        assert all(row.trainer_log_probs == pytest.approx(row.engine_log_probs, abs=1e-3) for row in rows)


def test_the_examples_of_the_docs_train(start, tmp_path, kill_loop, environment, overrides):
    process = start(COMMAND, "train", *overrides, "trainer.total_training_steps=3", *SAMPLES, **environment)
    output = process.output()
    assert "finished: 3 steps" in output and "WorkerDict" not in output
    assert output.count("\n  prompt") == 3, "samples on the console"
    run = RunFolder((tmp_path / "latest").resolve())
    records = kill_loop.read(run)
    assert list(records) == [1, 2, 3]
    assert_both_were_used(records)
    assert_samples_agree(run, records)
    assert json.loads(run.summary.read_text())["status"] == "finished"
    assert {"train.log", "curves.png"} <= {path.name for path in run.path.iterdir()}
    assert not processes.find_all(str(run.path))
    forwarded = OmegaConf.load(run.attempts()[-1].config).ray_kwargs.ray_init.runtime_env.env_vars
    assert forwarded.VERL_USE_EXTERNAL_MODULES == "my_estimator,my_loss"
    assert forwarded.PYTHONPATH == environment["PYTHONPATH"]


@pytest.mark.long
def test_the_examples_of_the_docs_survive_a_kill_in_a_save(start, workplace, kill_loop, environment, overrides):
    create = [COMMAND, "create", *overrides, "trainer.total_training_steps=4", "trainer.save_freq=2"]
    created = subprocess.run(
        create, cwd=workplace, env={**os.environ, **environment}, check=True, stdout=subprocess.PIPE, text=True
    )
    run = RunFolder(Path(created.stdout.strip()))

    slow_saves = {"VERL_USE_EXTERNAL_MODULES": "my_estimator,my_loss,slow_saves"}
    process = start(COMMAND, "resume", run.path, **{**environment, **slow_saves})
    half_saved = run.checkpoints / store.SAVING_FOLDER / "attempt_1" / "global_step_4" / "actor"
    kill_loop.wait_until(half_saved.exists, process)
    kill_loop.kill_tree(process, run)
    saved, ignored = store.newest_checkpoint(run.checkpoints)
    assert (saved.manifest.step, ignored) == (2, [])
    before, seen = kill_loop.read(run), window(saved.path)
    assert list(before) == [1, 2, 3]

    process = start(COMMAND, "resume", run.path, **environment)
    process.output()
    records = kill_loop.read(run)
    assert list(records) == [1, 2, 3, 4]
    assert kill_loop.differences({3: before[3]}, {3: records[3]}) == []
    assert window(run.checkpoints / "global_step_4")[:2] == seen and len(seen) == 2
    assert_both_were_used(records)
