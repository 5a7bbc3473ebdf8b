"""A user's own estimator and loss through our command; killed and resumed."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from reinforcepp_verl.checkpoints import store
from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.runs import processes
from reinforcepp_verl.tasks.arithmetic_model import AdditionWarmStart
from reinforcepp_verl.tasks.arithmetic_task import TASK

pytestmark = pytest.mark.e2e

COMMAND = Path(sys.executable).with_name("reinforcepp")
RECIPE = "+recipe=math_rlvr/arithmetic"
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


def test_the_examples_of_the_docs_train(start, tmp_path, kill_loop, environment, overrides):
    process = start(COMMAND, "train", *overrides, "trainer.total_training_steps=3", **environment)
    output = process.output()
    assert "finished: 3 steps" in output and "WorkerDict" not in output
    run = RunFolder((tmp_path / "latest").resolve())
    records = kill_loop.read(run)
    assert list(records) == [1, 2, 3]
    assert_both_were_used(records)
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
