"""A temporary Slurm of two nodes on this machine, without systemd or cgroups; everything it starts is ended."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

COMMAND = Path(sys.executable).with_name("reinforcepp")
SITE = f"""\
activate() {{ export PATH={COMMAND.parent}:$PATH; }}
SBATCH_ARGS=(--exclusive)
MIN_FREE_GIB=1
"""
INSTALL = "needs Slurm's daemons and munge; on Debian: apt-get install slurm-wlm munge"
DAEMONS = ("munged", "slurmctld", "slurmd")
PATH_OF_DAEMONS = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/usr/local/sbin"])
KILL_WAIT_S = 5
SLURM_CONF = """\
ClusterName=throwaway
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SlurmctldPort={ports[0]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=5,bf_interval=5,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
JobRequeue=1
KillWait={kill_wait}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=4000 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=low Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=60
PartitionName=high Nodes=n1,n2 MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@dataclass(frozen=True)
class Slurm:
    """A running Slurm: its folder, and the environment in which its commands find it."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": PATH_OF_DAEMONS}

    def call(self, *command: str | Path, cwd: Path | None = None, timeout: float = 60) -> str:
        """Run a command to its successful end and return what it prints."""
        arguments = [str(part) for part in command]
        done = subprocess.run(arguments, env=self.environment, capture_output=True, text=True, cwd=cwd, timeout=timeout)
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def job(self, job: str) -> dict[str, str]:
        """Return the fields of `scontrol show job`, for example JobState, ExitCode and Restarts."""
        words = self.call("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def start_now(self, job: str) -> None:
        """Start a requeued job at once; Slurm would wait two minutes."""
        # Within a second of the requeue a node would refuse it: its credential was just revoked.
        time.sleep(3)
        self.call("scontrol", "update", f"JobId={job}", "StartTime=now")

    def wait_for(self, job: str, *states: str, within_s: float) -> dict[str, str]:
        """Wait until a job is in one of the states; return its fields."""
        deadline = time.monotonic() + within_s
        while (fields := self.job(job))["JobState"] not in states:
            assert time.monotonic() < deadline, f"job {job} is {fields['JobState']}, not {states}, after {within_s} s"
            time.sleep(0.5)
        return fields


def _start_daemons(folder: Path) -> Slurm:
    """Start munge and Slurm, and wait until both nodes are there."""
    host = socket.gethostname()
    conf = SLURM_CONF.format(
        host=host, user=getpass.getuser(), folder=folder, ports=free_ports(3), kill_wait=KILL_WAIT_S
    )
    (folder / "slurm.conf").write_text(conf)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    slurm = Slurm(folder)
    munge = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid"}
    munge |= {"log-file": "munged.log", "seed-file": "munge.seed"}
    slurm.call("munged", *(f"--{option}={folder / name}" for option, name in munge.items()))
    slurm.call("slurmctld", "-c")
    for node in ("n1", "n2"):
        slurm.call("slurmd", "-N", node)
    deadline = time.monotonic() + 30
    while slurm.call("sinfo", "--noheader", "--format=%t", "--partition=low") != "idle":
        assert time.monotonic() < deadline, f"{slurm.call('sinfo')}: the logs are in {folder}"
        time.sleep(0.2)
    return slurm


def _end(folder: Path) -> None:
    """End every process of a Slurm, daemons and remaining job processes: they inherit the path of its configuration."""
    conf = str(folder / "slurm.conf")
    for end in (psutil.Process.terminate, psutil.Process.kill):
        found = [process for process in psutil.process_iter() if _variable(process, "SLURM_CONF") == conf]
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                end(process)
        psutil.wait_procs(found, timeout=20)


def _variable(process: psutil.Process, name: str) -> str | None:
    try:
        return process.environ().get(name)
    except psutil.Error:
        # It has ended, or belongs to another user.
        return None


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """Start two Slurm nodes, n1 and n2, with a partition `low` (default) that `high` preempts."""
    missing = [name for name in DAEMONS if shutil.which(name, path=PATH_OF_DAEMONS) is None]
    if missing:
        pytest.fail(f"{', '.join(missing)} not found: this test {INSTALL}", pytrace=False)
    # Not below pytest's folder: the path of a socket has 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    try:
        slurm = _start_daemons(folder)
        yield slurm
        slurm.call("scancel", "--user", getpass.getuser())
        deadline = time.monotonic() + KILL_WAIT_S + 60
        while slurm.call("squeue", "--noheader"):
            assert time.monotonic() < deadline, slurm.call("squeue")
            time.sleep(0.5)
    finally:
        _end(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder to submit jobs from: data/arithmetic, and a site.env for this machine."""
    folder = tmp_path_factory.mktemp("workplace")
    subprocess.run([COMMAND, "prepare", "arithmetic"], cwd=folder, check=True, timeout=240)
    (folder / "site.env").write_text(SITE)
    return folder
