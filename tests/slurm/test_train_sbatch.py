"""recipes/slurm/train.sbatch on a real Slurm of two nodes: the CPU job survives signals, preemption and requeues."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

COMMAND = Path(sys.executable).with_name("reinforcepp")
RECIPE = "+recipe=math_rlvr/arithmetic"
SCRIPT = Path(__file__).resolve().parents[2] / "recipes" / "slurm" / "train.sbatch"
START_S = 400
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]


@pytest.fixture
def sbatch(slurm, workplace: Path) -> Callable[..., str]:
    """Return a function that submits the CPU job as a user does by hand and returns the job's id."""

    def submit(*options: str, steps: int, overrides: tuple[str, ...] = ()) -> str:
        job = ("--exclusive", "--output=slurm-%j.log", *options, SCRIPT)
        run = (
            RECIPE,
            f"trainer.total_training_steps={steps}",
            "trainer.test_freq=-1",
            "trainer.val_before_train=false",
        )
        return slurm.call("sbatch", "--parsable", *job, *run, *overrides, cwd=workplace)

    return submit


def run_of(job: str, workplace: Path, within_s: float = START_S) -> Path:
    """Return the folder of a job's run, as the job recorded it."""
    record = workplace / "slurm_jobs" / "throwaway" / job
    wait_until(record.exists, within_s, f"the run folder of job {job}")
    return Path(record.read_text().strip())


def wait_until(condition: Callable[[], bool], within_s: float, what: str) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not after {within_s} s"
        time.sleep(0.2)


def steps_of(run: Path) -> list[int]:
    metrics = run / "metrics.jsonl"
    return [json.loads(line)["step"] for line in metrics.read_text().splitlines()] if metrics.exists() else []


def summary_of(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text())


def log_of(job: str, workplace: Path) -> str:
    return (workplace / f"slurm-{job}.log").read_text()


def assert_finished(run: Path, steps: int, attempts: int) -> None:
    """Check that a run recorded every step exactly once, in this many attempts, each with its logs."""
    summary = summary_of(run)
    assert (summary["status"], summary["steps"], summary["attempts"]) == ("finished", steps, attempts), summary
    assert steps_of(run) == list(range(1, steps + 1))
    starts = sorted(path.name for path in (run / "slurm").glob("attempt_*"))
    assert starts == [f"attempt_{number}" for number in range(1, attempts + 1)]
    assert all((run / "slurm" / start / "driver.log").stat().st_size > 0 for start in starts)
    assert f"finished: {steps} steps" in (run / "slurm" / "latest" / "driver.log").read_text()
    assert not list((run / "slurm").glob("*/ray_token")), "the token outlives its cluster"


def assert_tidy(job: str) -> None:
    assert not Path(f"/tmp/rpp_{job}").exists(), "Ray's files of the job are left"


def test_one_node_submitted_by_our_command(slurm, workplace: Path):
    settings = ("trainer.total_training_steps=2", "trainer.test_freq=-1", "trainer.val_before_train=false")
    command = (COMMAND, "slurm", "submit", RECIPE, *settings, "runs_dir=submitted")
    said = slurm.call(*command, cwd=workplace).splitlines()[-1]
    job, folder = said.removeprefix("job ").split(": ")
    fields = slurm.wait_for(job, *ENDED, within_s=START_S)
    assert (fields["JobState"], fields["ExitCode"]) == ("COMPLETED", "0:0"), fields
    assert_finished(Path(folder), steps=2, attempts=1)
    assert_tidy(job)
    table = slurm.call(COMMAND, "slurm", "status", "submitted", cwd=workplace)
    assert f"{job} COMPLETED 2/2" in " ".join(table.split())


def test_two_nodes_with_one_fsdp_worker_each(slurm, workplace: Path, sbatch: Callable[..., str]):
    job = sbatch("--nodes=2", steps=2, overrides=("trainer.nnodes=2",))
    run = run_of(job, workplace)
    wait_until(lambda: len(nodes_of_fsdp_workers(job)) == 2, START_S, "two FSDP workers")
    assert sorted(nodes_of_fsdp_workers(job)) == ["n1", "n2"]
    fields = slurm.wait_for(job, *ENDED, within_s=START_S)
    assert (fields["JobState"], fields["ExitCode"]) == ("COMPLETED", "0:0"), log_of(job, workplace)
    assert_finished(run, steps=2, attempts=1)
    assert {path.name for path in (run / "slurm" / "attempt_1").glob("*.log")} >= {"head.log", "worker-0.log"}
    assert_tidy(job)


def nodes_of_fsdp_workers(job: str) -> list[str]:
    """Return the Slurm nodes of a job's FSDP workers: their raylet's environment names it."""
    found = []
    for process in psutil.process_iter():
        try:
            if "WorkerDict" in " ".join(process.cmdline()) and (raylet := process.parent()) is not None:
                environment = raylet.environ()
                if environment.get("SLURM_JOB_ID") == job:
                    found.append(environment["SLURMD_NODENAME"])
        except psutil.Error:
            continue
    return found


def test_usr1_saves_and_requeues_and_the_next_start_resumes(slurm, workplace: Path, sbatch: Callable[..., str]):
    job = sbatch(steps=12)
    run = run_of(job, workplace)
    wait_until(lambda: bool(steps_of(run)), START_S, "a first step")
    slurm.call("scancel", "--batch", "--signal=USR1", job)
    assert_resumes_to_the_end(slurm, job, run, workplace, steps=12)


def test_preemption_saves_and_the_next_start_resumes(slurm, workplace: Path, sbatch: Callable[..., str]):
    job = sbatch(steps=12)
    run = run_of(job, workplace)
    wait_until(lambda: bool(steps_of(run)), START_S, "a first step")
    urgent = ("--parsable", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=true")
    urgent_job = slurm.call("sbatch", *urgent)
    slurm.wait_for(urgent_job, "COMPLETED", within_s=120)
    assert_resumes_to_the_end(slurm, job, run, workplace, steps=12)


def assert_resumes_to_the_end(slurm, job: str, run: Path, workplace: Path, steps: int) -> None:
    wait_until(lambda: slurm.job(job)["Restarts"] == "1", 60, "the requeue")
    done = steps_of(run)
    assert 0 < len(done) < steps, "the signal must stop it before the end"
    assert (run / "checkpoints" / f"global_step_{done[-1]}" / "COMPLETE").exists()
    wait_until(lambda: slurm.job(job)["JobState"] == "PENDING", 60, "the end of the first start")
    slurm.start_now(job)
    fields = slurm.wait_for(job, *ENDED, within_s=START_S)
    log = log_of(job, workplace)
    assert (fields["JobState"], fields["ExitCode"]) == ("COMPLETED", "0:0"), log
    assert_finished(run, steps=steps, attempts=2)
    assert "exit code 75" in log
    assert f"continues at step {done[-1]}" in log, "both starts write to one log"


def test_an_array_of_two_seeds_at_once(slurm, workplace: Path, sbatch: Callable[..., str]):
    array = sbatch("--array=1,2", "--output=slurm-%A_%a.log", steps=2)
    runs = {seed: run_of(f"{array}_{seed}", workplace) for seed in (1, 2)}
    assert runs[1] != runs[2]
    for seed, run in runs.items():
        fields = slurm.wait_for(f"{array}_{seed}", *ENDED, within_s=2 * START_S)
        assert (fields["JobState"], fields["ExitCode"]) == ("COMPLETED", "0:0"), log_of(f"{array}_{seed}", workplace)
        assert_finished(run, steps=2, attempts=1)
        assert summary_of(run)["seed"] == seed


def test_a_failing_driver_gives_the_job_its_exit_code(slurm, workplace: Path, sbatch: Callable[..., str]):
    reward = workplace / "broken_reward.py"
    reward.write_text(
        "def compute_score(data_source, solution_str, ground_truth, extra_info=None):\n    return 1 / 0\n"
    )
    job = sbatch(steps=5, overrides=(f"reward.custom_reward_function.path={reward}",))
    fields = slurm.wait_for(job, *ENDED, within_s=START_S)
    assert (fields["JobState"], fields["ExitCode"], fields["Restarts"]) == ("FAILED", "1:0", "0")
    assert summary_of(run_of(job, workplace))["status"] == "failed"
    assert "exit code 1" in log_of(job, workplace)


def test_a_refused_configuration_ends_the_job_at_once(slurm, workplace: Path, sbatch: Callable[..., str]):
    job = sbatch(steps=2, overrides=("algorithm.gama=1",))
    fields = slurm.wait_for(job, *ENDED, within_s=60)
    assert (fields["JobState"], fields["ExitCode"]) == ("FAILED", "2:0")
    assert "algorithm.gamma" in log_of(job, workplace)


def test_a_sweep_of_two_seeds_by_submitit(slurm, workplace: Path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    launcher = ("--multirun", "hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=30")
    run = (RECIPE, "trainer.total_training_steps=2", "trainer.test_freq=-1", "trainer.val_before_train=false")
    slurm.call(COMMAND, "train", *launcher, *run, "seed=1,2", "runs_dir=swept", cwd=workplace, timeout=2 * START_S)
    runs = [path for path in (workplace / "swept").iterdir() if path.is_dir() and not path.is_symlink()]
    assert sorted(summary_of(run)["seed"] for run in runs) == [1, 2]
    assert all(summary_of(run)["status"] == "finished" and steps_of(run) == [1, 2] for run in runs)
