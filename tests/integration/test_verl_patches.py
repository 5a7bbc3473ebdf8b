"""The weight transfer's socket belongs to one run, and verl still needs our patch for that."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightReceiver, BucketedWeightSender

from reinforcepp_verl.common.run_folder import ATTEMPT_VARIABLE
from reinforcepp_verl.integration import verl_patches

HANDLE = "ipc:///tmp/rl-colocate-zmq-01000000-replica-0-rank-0.sock"


def handles(monkeypatch, raylet, attempt):
    monkeypatch.setenv("RAY_RAYLET_PID", raylet)
    monkeypatch.setenv(ATTEMPT_VARIABLE, attempt)
    sender = BucketedWeightSender(zmq_handle=HANDLE, bucket_size_mb=1, use_shm=True)
    return sender.zmq_handle, BucketedWeightReceiver(zmq_handle=HANDLE, device=None, use_shm=True).zmq_handle


def test_both_ends_of_a_run_connect_and_no_other_run_does(monkeypatch):
    ours = handles(monkeypatch, "17", "/runs/a/attempt_1")
    assert ours[0] == ours[1] == verl_patches.own_socket(HANDLE) != HANDLE
    others = {handles(monkeypatch, *other)[0] for other in (("18", "/runs/a/attempt_1"), ("17", "/runs/b/attempt_1"))}
    assert len(others) == 2 and ours[0] not in others
    # The longest path of a socket has 107 bytes.
    assert ours[0].startswith("ipc:///tmp/") and len(ours[0]) < 107


def test_verl_still_names_the_socket_by_rays_job_number_alone():
    from verl.workers.rollout.vllm_rollout import vllm_rollout

    source = inspect.getsource(vllm_rollout)
    assert 'f"ipc:///tmp/rl-colocate-zmq-{job_id}-replica-{self.replica_rank}-rank-{local_rank}.sock"' in source


@pytest.mark.long
def test_every_ray_cluster_gives_its_first_job_the_same_name():
    """Two runs on one machine, each with its own Ray."""
    script = "import ray; ray.init(address='local', include_dashboard=False, num_cpus=1); "
    script += "print('job', ray.get_runtime_context().get_job_id())"
    both = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    jobs = [process.communicate(timeout=300)[0].split("job ")[1].strip() for process in both]
    assert jobs == ["01000000", "01000000"]
