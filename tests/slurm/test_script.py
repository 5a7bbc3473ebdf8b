"""recipes/slurm/train.sbatch with stubs for Slurm's commands and for the driver: what it starts and how it ends."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

FILES = Path(__file__).resolve().parents[2] / "recipes" / "slurm"
STUBS = {
    # Runs the command once per node, one after the other.
    "srun": """
echo "$*" >> "$CALLS/srun"
while [[ $1 == --* ]]; do
    [[ $1 != --output=* ]] || exec >"${1#--output=}" 2>&1
    [[ $1 != --nodes=* ]] || nodes=${1#--nodes=}
    shift
done
for ((node = 2; node <= nodes; node++)); do SLURMD_NODENAME=n$node "$@"; done
exec "$@"
""",
    "scontrol": """
case $1 in
    requeue) echo "$2" >> "$CALLS/requeue" ;;
    --version) echo "slurm-wlm ${STUB_SLURM:-22.05.8}" ;;
    *) for task in 1 2; do
        echo "JobId=7 StartTime=2026-01-02T00:00:00 EndTime=Unknown PreemptEligibleTime=2026-01-02T00:00:00" \
            "PreemptTime=${STUB_PREEMPTED:-None} Command=$FILES/train.sbatch +recipe=x"
    done ;;
esac
""",
    "reinforcepp": """
echo "$*" >> "$CALLS/reinforcepp"
case "$1 ${2:-}" in
    "create "*) mkdir -p "$RUNS/new"; echo "$RUNS/new" ;;
    "slurm facts") echo "cpu 1 ${STUB_CPUS:-null}" ;;
    "slurm versions") echo "verl 1" ;;
    "slurm ready") until [[ -e $CALLS/ray_worker ]]; do sleep 0.1; done ;;
    "resume "*) rm -f "$2/STOP"; source "$CALLS/driver" ;;
esac
""",
}
SITE = "activate() { :; }\nMIN_FREE_GIB=0\nTEMP_ROOT=$PWD/temp\n"


class Job:
    """One start of the script; `calls(name)` are the argument lists with which a stub was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = folder / "runs"
        self.run = self.runs / "new"
        for name, text in STUBS.items():
            stub = folder / "bin" / name
            stub.parent.mkdir(exist_ok=True)
            stub.write_text(f"#!/bin/bash\n{text}")
            stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
        (folder / "calls").mkdir()
        (folder / "site.env").write_text(SITE)
        self.driver("exit 0")

    def driver(self, script: str) -> None:
        """Set what `reinforcepp resume RUN` does, in Bash; $2 is the run."""
        (self.folder / "calls" / "driver").write_text(script)

    def site(self, lines: str) -> None:
        (self.folder / "site.env").write_text(SITE + lines)

    def start(self, *arguments: str, bare: bool = False, **environment: str) -> subprocess.Popen:
        arguments = arguments if arguments or bare else ("+recipe=x",)
        slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_CPUS_ON_NODE": "4"}
        slurm |= {"SLURMD_NODENAME": "n1", "SLURM_JOB_NODELIST": "n1", "SLURM_SUBMIT_DIR": str(self.folder)}
        own = {"CALLS": str(self.folder / "calls"), "RUNS": str(self.runs), "FILES": str(FILES)}
        clean = {
            key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "REINFORCEPP", "SITE"))
        }
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        return subprocess.Popen(
            ["bash", str(FILES / "train.sbatch"), *arguments],
            env={**clean, **slurm, **own, "PATH": path, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self, *arguments: str, bare: bool = False, **environment: str) -> tuple[int, str]:
        process = self.start(*arguments, bare=bare, **environment)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output

    def calls(self, name: str) -> list[str]:
        file = self.folder / "calls" / name
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


@pytest.fixture
def interrupt(job: Job) -> Callable[..., tuple[int, str]]:
    """Return a function that sends a signal to the script once its driver runs, and returns exit code and output."""

    def send(number: int, **environment: str) -> tuple[int, str]:
        process = job.start(**environment)
        deadline = time.monotonic() + 30
        while not (job.run / "running").exists():
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
            time.sleep(0.05)
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output

    return send


STOPPABLE = 'touch "$2/running"; until [[ -e $2/STOP ]]; do sleep 0.1; done; rm "$2/running"; exit 75'
SAVES = 'mkdir -p "$2/checkpoints/global_step_{step}"; touch "$2/checkpoints/global_step_{step}/COMPLETE"; '


def test_a_start_creates_the_run_and_resumes_it_with_the_cpus_of_the_job(job):
    code, output = job.end("+recipe=x", "seed=3")
    assert code == 0, output
    assert job.calls("reinforcepp") == [
        "create +recipe=x seed=3",
        f"slurm facts {job.run} 1",
        "slurm versions",
        f"resume {job.run} ray_kwargs.ray_init.num_cpus=4",
    ]
    assert (job.folder / "slurm_jobs" / "7").read_text().strip() == str(job.run)
    assert (job.run / "slurm" / "job_id").read_text().strip() == "7"
    assert all("--cpus-per-task=4" in call and "--overlap" in call for call in job.calls("srun"))
    assert not (job.folder / "temp" / "rpp_7").exists()


def test_logical_cpus_of_the_configuration_are_kept(job):
    job.end(STUB_CPUS="16")
    assert job.calls("reinforcepp")[-1].endswith("num_cpus=16")


def test_the_second_start_finds_the_run_and_keeps_the_first_ones_logs(job):
    job.driver("echo the driver says this; exit 0")
    for restarts in ("0", "1"):
        assert job.end(SLURM_RESTART_COUNT=restarts)[0] == 0
    assert [call.split()[0] for call in job.calls("reinforcepp")].count("create") == 1
    for number in (1, 2):
        assert "says this" in (job.run / "slurm" / f"attempt_{number}" / "driver.log").read_text()
    assert os.readlink(job.run / "slurm" / "latest") == "attempt_2"


def test_a_record_applies_to_restarts_of_the_same_job_on_the_same_cluster(job):
    record = job.folder / "slurm_jobs" / "first" / "7"
    for name in ("a", "b"):
        (job.runs / name).mkdir(parents=True)
    (job.runs / "latest").symlink_to("a")
    assert job.end(SLURM_CLUSTER_NAME="first", REINFORCEPP_SLURM_RUN=str(job.runs / "latest"))[0] == 0
    assert record.read_text().strip() == str(job.runs / "a")
    (job.runs / "latest").unlink()
    (job.runs / "latest").symlink_to("b")
    again = {"SLURM_RESTART_COUNT": "1", "REINFORCEPP_SLURM_RUN": str(job.runs / "latest")}
    assert job.end(SLURM_CLUSTER_NAME="first", **again)[0] == 0
    assert len(list((job.runs / "a" / "slurm").glob("attempt_*"))) == 2, "the link is read once"
    assert job.end(SLURM_CLUSTER_NAME="second", **again)[0] == 0
    assert (job.runs / "b" / "slurm" / "attempt_1").exists()
    assert job.end(SLURM_CLUSTER_NAME="first")[0] == 0
    assert record.read_text().strip() == str(job.run), "another job with an old number makes a run of its own"


def test_the_run_of_submit_is_used_and_a_task_uses_the_run_of_its_number(job):
    for name in ("a", "b"):
        (job.runs / name).mkdir(parents=True)
    assert job.end(REINFORCEPP_SLURM_RUN=str(job.runs / "a"))[0] == 0
    task = {"SLURM_ARRAY_JOB_ID": "6", "SLURM_ARRAY_TASK_ID": "2", "REINFORCEPP_SLURM_RUN_2": str(job.runs / "b")}
    assert job.end(**task)[0] == 0
    assert (job.runs / "b" / "slurm" / "job_id").read_text().strip() == "6_2"
    assert not any(call.startswith("create") for call in job.calls("reinforcepp"))


def test_a_task_of_a_manual_array_gets_its_number_as_seed(job):
    job.end("+recipe=x", SLURM_ARRAY_JOB_ID="6", SLURM_ARRAY_TASK_ID="2")
    assert job.calls("reinforcepp")[0] == "create +recipe=x seed=2"
    assert (job.folder / "slurm_jobs" / "6_2").exists()


@pytest.mark.parametrize("code", [0, 1, 2, 75, 143])
def test_the_exit_code_is_the_drivers_and_nothing_is_requeued_by_default(job, code):
    job.driver(f"exit {code}")
    assert job.end()[0] == code
    assert not job.calls("requeue")


def test_usr1_stops_the_run_and_requeues_the_job(job, interrupt):
    job.driver(SAVES.format(step=5) + STOPPABLE)
    code, output = interrupt(signal.SIGUSR1)
    assert code == 75
    assert job.calls("requeue") == ["7"]
    assert "newest checkpoint at step 5" in output


def test_of_an_array_only_the_task_is_requeued(job, interrupt):
    job.driver(STOPPABLE)
    interrupt(signal.SIGUSR1, SLURM_JOB_ID="6", SLURM_ARRAY_JOB_ID="6", SLURM_ARRAY_TASK_ID="2")
    assert job.calls("requeue") == ["6_2"]


def test_term_stops_the_run_and_leaves_the_requeue_to_slurm(job, interrupt):
    job.driver(STOPPABLE)
    assert interrupt(signal.SIGTERM)[0] == 75
    assert not job.calls("requeue")


@pytest.mark.parametrize(
    ("code", "preempted", "requeued"),
    [
        (75, "2026-01-02T00:00:01", True),
        (1, "2026-01-02T00:00:01", True),
        (1, "2026-01-01T23:59:59", False),
        (75, "None", False),
        (0, "2026-01-02T00:00:01", False),
        (2, "2026-01-02T00:00:01", False),
    ],
)
def test_a_job_that_ends_within_the_grace_time_of_a_preemption_is_requeued(job, code, preempted, requeued):
    job.driver(f"exit {code}")
    assert job.end(STUB_PREEMPTED=preempted)[0] == code
    assert job.calls("requeue") == ["7"] * requeued


def test_a_run_that_finishes_despite_the_stop_is_not_requeued(job, interrupt):
    job.driver(STOPPABLE.replace("exit 75", "exit 0"))
    assert interrupt(signal.SIGUSR1)[0] == 0
    assert not job.calls("requeue")


def test_requeues_without_a_new_checkpoint_are_counted_and_limited(job, interrupt):
    job.site("MAX_REQUEUES_WITHOUT_PROGRESS=1\n")
    job.driver(STOPPABLE)
    again = {"SLURM_RESTART_COUNT": "1"}
    interrupt(signal.SIGUSR1)
    _, output = interrupt(signal.SIGUSR1, **again)
    assert job.calls("requeue") == ["7"]
    assert "not requeued: 2 starts in a row ended without a new checkpoint" in output
    interrupt(signal.SIGUSR1, REINFORCEPP_SLURM_RUN=str(job.run))
    assert len(job.calls("requeue")) == 2, "another job starts the count anew"
    job.driver(SAVES.format(step=1) + STOPPABLE)
    interrupt(signal.SIGUSR1, **again)
    assert len(job.calls("requeue")) == 3, "progress starts the count anew"


def test_a_step_that_takes_too_long_does_not_cost_the_requeue(job, interrupt):
    stub = '#!/bin/bash\necho "$*" >> "$CALLS/squeue"\nprintf "0:46\\n1-00:00:00\\n"\n'
    (job.folder / "bin" / "squeue").write_text(stub)
    (job.folder / "bin" / "squeue").chmod(0o755)
    job.driver('touch "$2/running"; exec sleep 30')
    code, output = interrupt(signal.SIGUSR1, SLURM_ARRAY_JOB_ID="6", SLURM_ARRAY_TASK_ID="2")
    assert code == 75 and "takes too long; requeued without a new checkpoint" in output
    assert job.calls("requeue") == ["6_2"]
    assert job.calls("squeue") == ["--noheader --jobs=6_2 --format=%L"], "the whole array has other times left"


@pytest.mark.parametrize(
    ("left", "expected"),
    [("0:46", 46), ("2:58", 178), ("1:00:05", 3605), ("1-02:03:04", 93784), ("UNLIMITED", 31536000), ("", 31536000)],
)
def test_time_left_in_seconds(left, expected):
    script = f"source {FILES / 'lib.sh'}; seconds '{left}'"
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) == expected


def test_a_job_without_arguments_and_without_a_run_is_refused(job):
    code, output = job.end(bare=True)
    assert code == 2 and "no arguments, and no run: is sbatch called with --export=NONE?" in output


def test_a_failure_is_requeued_if_configured(job):
    job.site("REQUEUE_ON_FAILURE=1\n")
    job.driver("exit 1")
    assert job.end()[0] == 1
    assert job.calls("requeue") == ["7"]
    job.driver("exit 2")
    assert job.end()[0] == 2
    assert job.calls("requeue") == ["7"], "what is refused once is refused again"


def test_scripts_of_the_site_may_use_variables_that_are_not_set(job):
    job.site('export SEEN=$NOT_SET; activate() { echo "$NOT_SET"; }\n')
    assert job.end()[0] == 0
    job.site("activate() { false; }\n")
    assert job.end()[0] == 1, "errors still end the job"


def test_a_named_site_env_must_exist(job):
    code, output = job.end(SITE_ENV=str(job.folder / "other.env"))
    assert code == 2 and f"error: SITE_ENV {job.folder / 'other.env'}: no such file" in output


def test_steps_inherit_the_environment_whatever_the_site_sets(job):
    job.driver('echo "$SLURM_EXPORT_ENV" > "$CALLS/export"')
    job.end(SLURM_EXPORT_ENV="NONE")
    assert job.calls("export") == ["ALL"]


def test_nodes_with_other_versions_end_the_job(job):
    stub = job.folder / "bin" / "reinforcepp"
    stub.write_text(stub.read_text().replace("verl 1", "verl $SLURMD_NODENAME"))
    code, output = job.end(SLURM_JOB_NUM_NODES="2")
    assert code == 1
    assert "different versions" in output and "verl n2" in output


def test_a_full_disk_is_named(job):
    job.site("MIN_FREE_GIB=99999999\n")
    code, output = job.end()
    assert code == 1
    assert "error: a node failed its check: " in output and "MIN_FREE_GIB=99999999" in output


def test_secrets_come_from_a_file_that_only_the_user_may_read(job):
    secrets = job.folder / "secrets"
    secrets.write_text("STUB_TOKEN=abcdefgh\n")
    job.site(f"SECRETS_FILE={secrets}\n")
    job.driver('[[ $STUB_TOKEN == abcdefgh ]] && touch "$2/known"')
    secrets.chmod(0o640)
    code, output = job.end()
    assert code == 2 and "chmod 600" in output
    secrets.chmod(0o600)
    code, output = job.end()
    assert code == 0 and (job.run / "known").exists()
    written = [file.read_text() for file in job.folder.rglob("*") if file.is_file() and file != secrets]
    assert [text for text in [output, *written] if "abcdefgh" in text] == [
        (job.folder / "calls" / "driver").read_text()
    ]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ("export A=b  ", "b"),
        ("A='b c'", "b c"),
        ('A="b"c"', 'b"c'),
        ("A=p$HOME$(id)`id`;x y", "p$HOME$(id)`id`;x y"),
        ("A=\"b'", "\"b'"),
        ("A=b=c#d\\n", "b=c#d\\n"),
        ("A=", ""),
    ],
)
def test_secrets_are_read_literally(tmp_path, line, value):
    done = load_secrets(tmp_path, f"# a comment\n\n  # another\n{line}")
    assert (done.returncode, done.stdout) == (0, value), done.stderr


@pytest.mark.parametrize("line", ["abcdefgh", "A B=abcdefgh", "1A=abcdefgh", "A =abcdefgh", "=abcdefgh"])
def test_a_malformed_secret_is_not_shown(tmp_path, line):
    done = load_secrets(tmp_path, f"A=b\n{line}\n")
    said = f"error: SECRETS_FILE {tmp_path}/secrets, line 2: it must be NAME=value\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def load_secrets(folder: Path, text: str) -> subprocess.CompletedProcess:
    """Load a file of this text and print $A."""
    (folder / "secrets").write_text(text)
    (folder / "secrets").chmod(0o600)
    script = f"source {FILES / 'lib.sh'}; SECRETS_FILE={folder / 'secrets'}; load_secrets; printenv A | head -c -1"
    return subprocess.run(["bash", "-euc", script], capture_output=True, text=True)


def test_containers(job):
    job.site("CONTAINER=pyxis:/images/a.sqsh CONTAINER_MOUNTS='/my models,/data'\n")
    job.end()
    pyxis = job.calls("srun")[-1]
    mounts = f"{job.folder}/temp:{job.folder}/temp,{job.folder}:{job.folder},{FILES}:{FILES},{job.run}:{job.run}"
    assert "--container-image=/images/a.sqsh" in pyxis
    assert f"--container-mounts={mounts},/my models:/my models,/data:/data" in pyxis
    apptainer = job.folder / "bin" / "apptainer"
    apptainer.write_text('#!/bin/bash\nuntil [[ $1 == *.sif ]]; do shift; done; shift; exec "$@"\n')
    apptainer.chmod(0o755)
    job.site("CONTAINER=apptainer:/images/a.sif\n")
    assert job.end(SLURM_GPUS_ON_NODE="8")[0] == 0
    assert f"apptainer exec --nv --bind {mounts} --pwd {job.folder} /images/a.sif bash" in job.calls("srun")[-1]
    job.site("CONTAINER=docker:a\n")
    assert "error: CONTAINER docker:a: it must be none, pyxis:IMAGE or apptainer:FILE" in job.end()[1]


RAY = f"""#!/bin/bash
role=worker port=
for word in "$@"; do case $word in --head) role=head ;; --port=*) port=${{word#--port=}} ;; esac; done
echo "$RAY_AUTH_MODE $(stat --format=%a "$RAY_AUTH_TOKEN_PATH") $*" > "$CALLS/ray_$role"
if [[ $role == head ]]; then exec {sys.executable} -m http.server "$port"; else exec sleep 60; fi
"""


def install_ray(job: Job, text: str) -> None:
    stub = job.folder / "bin" / "ray"
    stub.write_text(text)
    stub.chmod(0o755)


def test_two_nodes_start_their_own_ray_cluster_and_end_it(job):
    install_ray(job, RAY)
    job.driver('cp "$2"/slurm/latest/ray_* "$2"; exit 0')
    code, output = job.end(SLURM_JOB_NUM_NODES="2")
    assert code == 0, output
    address = (job.run / "ray_address").read_text().strip()
    assert job.calls("reinforcepp")[-1] == (
        f"resume {job.run} ray_kwargs.ray_init.address={address} ray_kwargs.ray_init.num_cpus=null "
        "ray_kwargs.ray_init.num_gpus=null"
    )
    [head], [worker] = job.calls("ray_head"), job.calls("ray_worker")
    assert head.startswith("token 600 start --block") and worker.startswith("token 600 start --block")
    assert "--include-dashboard=false --dashboard-host=127.0.0.1" in head
    assert f"--address={address}" in worker
    used = sorted(int(port) for port in re.findall(r"port=(\d+)", head))
    assert len(used) == len(set(used)) and 20000 <= used[0] and used[-1] < 32000
    assert int(address.rpartition(":")[2]) == used[0]
    assert len((job.run / "ray_token").read_text()) == 64
    assert not (job.run / "slurm" / "attempt_1" / "ray_token").exists()
    assert not any("--ntasks=2" in call and "as_" in call for call in job.calls("srun"))


def test_several_nodes_need_steps_that_share_gpus(job):
    assert job.end(STUB_SLURM="21.08.8")[0] == 0
    code, output = job.end(SLURM_JOB_NUM_NODES="2", STUB_SLURM="21.08.8")
    assert code == 2 and "error: slurm-wlm 21.08.8: several nodes need 22.05; train on one node" in output


def test_a_ray_process_that_ends_ends_the_job_at_once(job):
    install_ray(job, "#!/bin/bash\nexit 1\n")
    code, output = job.end(SLURM_JOB_NUM_NODES="2")
    assert code == 1
    assert "error: a part of Ray ended" in output
    assert not any(call.startswith("resume") for call in job.calls("reinforcepp"))


def test_usr1_before_the_driver_runs_is_not_lost(job):
    stub = job.folder / "bin" / "reinforcepp"
    stub.write_text(stub.read_text().replace('"slurm versions")', '"slurm versions") touch "$CALLS/here"; sleep 2;'))
    process = job.start()
    while not (job.folder / "calls" / "here").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=60)
    assert process.returncode == 75
    assert job.calls("requeue") == ["7"]
    assert not any(call.startswith("resume") for call in job.calls("reinforcepp"))
