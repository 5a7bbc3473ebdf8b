"""Real verl, Ray, FSDP2 and vLLM on the CPU: a run learns, also after a stop, and two workers compute what one does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from reinforcepp_verl.checkpoints import store
from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.runs import processes
from reinforcepp_verl.training_samples.files import SampleFiles

pytestmark = [pytest.mark.e2e, pytest.mark.long]

COMMAND = Path(sys.executable).with_name("reinforcepp")
HELPERS = Path(__file__).parents[2] / "benchmarks" / "helpers"
RECIPE = "+recipe=math_rlvr/arithmetic"
VAL_ACCURACY = "val-core/reinforcepp/arithmetic/acc/mean@1"
# Token-mean makes the on-policy loss zero up to rounding, which has no relative error to compare.
COMPARABLE_LOSS = "actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-mean"
# verl splits the batch across workers before it forms mini-batches, so only the full batch is the same.
ONE_UPDATE_A_STEP = "actor_rollout_ref.actor.ppo_mini_batch_size=24"
REPLAYED_STEPS = 2


def replay(folder: Path) -> list[str]:
    """Overrides under which verl records the rollouts of the first steps in `folder`, or replays them from there."""
    steps = list(range(1, REPLAYED_STEPS + 1))
    return ["skip.rollout_tq.enable=true", f"skip.rollout_tq.dump_dir={folder}", f"skip.rollout_tq.steps={steps}"]


def read_records(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory):
    return tmp_path_factory.mktemp("rollouts")


@pytest.fixture(scope="module")
def one_worker_records() -> list[dict]:
    """Filled by the first test and read by the second: a run costs minutes."""
    return []


def test_one_worker_learns_in_true_fp32(train, rollouts, one_worker_records):
    length = ["trainer.total_training_steps=12", "trainer.test_freq=12"]
    run, output = train(COMPARABLE_LOSS, ONE_UPDATE_A_STEP, *replay(rollouts), *length)
    steps = read_records(run)
    one_worker_records.extend(steps)

    assert [record["step"] for record in steps] == list(range(13))
    assert all(record["training/rollout_probs_diff_mean"] < 1e-4 for record in steps[1:])
    assert all(record["actor/grad_norm"] > 0 for record in steps[1:])
    assert steps[-1][VAL_ACCURACY] > steps[0][VAL_ACCURACY]

    result = json.loads((run / "summary.json").read_text())
    assert result["status"] == "finished"
    assert (result["steps"], result["seed"]) == (12, 1)
    assert result["initial_val"] == steps[0][VAL_ACCURACY]
    assert result["final_val"] == steps[-1][VAL_ACCURACY]
    assert 0 < result["step_seconds_median"] < result["seconds"]
    files = {path.name for path in run.iterdir()}
    assert {"config.yaml", "metrics.jsonl", "train.log", "curves.png", "summary.json", "validation"} <= files
    answers = [json.loads(line) for line in (run / "validation" / "12.jsonl").read_text().splitlines()]
    assert sum(answer["acc"] for answer in answers) / len(answers) == pytest.approx(steps[-1][VAL_ACCURACY])
    assert "val acc" in output and "WorkerDict" not in output
    assert not processes.find_all(str(run))


def test_a_run_stopped_and_then_killed_in_a_save_has_the_metrics_of_an_uninterrupted_one(
    start, workplace, one_worker_records, kill_loop
):
    options = ["trainer.val_before_train=false", "trainer.test_freq=-1", "trainer.save_freq=4"]
    create = [COMMAND, "create", RECIPE, COMPARABLE_LOSS, ONE_UPDATE_A_STEP, "trainer.total_training_steps=6", *options]
    folder = subprocess.run(create, cwd=workplace, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    run, loop = RunFolder(Path(folder)), kill_loop

    process = start(COMMAND, "resume", folder)
    loop.wait_until(lambda: loop.read(run), process)
    run.stop.touch()
    process.output(exit_code=75)
    assert json.loads(run.summary.read_text())["status"] == "stopped" and not run.stop.exists()
    stopped_at = max(loop.read(run))
    assert stopped_at < 4 and store.newest_checkpoint(run.checkpoints)[0].manifest.step == stopped_at

    process = start(COMMAND, "resume", folder, VERL_USE_EXTERNAL_MODULES="slow_saves", PYTHONPATH=str(HELPERS))
    loop.wait_until((run.checkpoints / store.SAVING_FOLDER / "attempt_2" / "global_step_4" / "actor").exists, process)
    loop.kill_tree(process, run)
    found, ignored = store.newest_checkpoint(run.checkpoints)
    assert (found.manifest.step, ignored) == (stopped_at, [])

    process = start(COMMAND, "resume", folder)
    process.output()
    assert json.loads(run.summary.read_text())["attempts"] == 3
    assert SampleFiles(run.samples).steps() == list(range(1, 7))
    alone = {record["step"]: record for record in one_worker_records if 1 <= record["step"] <= 6}
    assert loop.differences(alone, loop.read(run)) == []


def test_two_workers_compute_the_same_loss_and_gradient(train, rollouts, one_worker_records):
    run, _ = train(
        COMPARABLE_LOSS,
        ONE_UPDATE_A_STEP,
        *replay(rollouts),
        f"trainer.total_training_steps={REPLAYED_STEPS}",
        "trainer.val_before_train=false",
        "trainer.n_gpus_per_node=2",
    )
    two_workers = read_records(run)
    assert len(two_workers) == REPLAYED_STEPS
    assert len(one_worker_records) > REPLAYED_STEPS, "the test above records the rollouts that this one replays"
    for one, two in zip(one_worker_records[1 : REPLAYED_STEPS + 1], two_workers, strict=True):
        assert two["actor/loss"] == pytest.approx(one["actor/loss"], rel=1e-4)
        assert two["actor/grad_norm"] == pytest.approx(one["actor/grad_norm"], rel=1e-4)
        assert two["training/rollout_probs_diff_mean"] < 1e-4
