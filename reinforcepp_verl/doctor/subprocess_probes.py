"""Probes of verl, vLLM and Ray that `doctor` runs in separate processes, because they leave state behind."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

from reinforcepp_verl.common.hardware import cpu_platform_wanted
from reinforcepp_verl.common.plugin_policy import PLUGIN_NAME, allows_our_plugin, plugin_policy
from reinforcepp_verl.common.slow_ray_start import retry_slow_ray_start
from reinforcepp_verl.integration.cpu.environment import CPU_ENVIRONMENT
from reinforcepp_verl.runs import ray_token, run_environment

PROBE_SECONDS = 45
NO_ANSWER = f"no answer within {PROBE_SECONDS} s"


def probe(function: str) -> dict[str, Any]:
    """Call one of the `print_*` functions below in a separate process and return what it printed last."""
    with tempfile.TemporaryDirectory(prefix="doctor-", dir="/tmp", ignore_cleanup_errors=True) as scratch:
        code = f"from reinforcepp_verl.doctor import subprocess_probes; subprocess_probes.{function}({scratch!r})"
        try:
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PROBE_SECONDS)
        except subprocess.TimeoutExpired:
            return {"error": NO_ANSWER}
        finally:
            _wait_for_the_last_process(scratch)
    if done.returncode != 0:
        return {"error": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def _wait_for_the_last_process(scratch: str) -> None:
    """Wait for Ray's daemons: they end a moment after their driver and write to their folder until then."""
    for _ in range(50):
        if not any(
            scratch in argument for p in psutil.process_iter(["cmdline"]) for argument in p.info["cmdline"] or ()
        ):
            return
        time.sleep(0.1)


def print_vllm_platform(_scratch: str) -> None:
    if cpu_platform_wanted():
        os.environ.setdefault("VLLM_TARGET_DEVICE", CPU_ENVIRONMENT["VLLM_TARGET_DEVICE"])
    from vllm.platforms import current_platform

    print(json.dumps({"platform": type(current_platform).__name__, "device": current_platform.device_type}))


def print_registration(_scratch: str) -> None:
    print(json.dumps(registration()))


def print_ray_worker(scratch: str) -> None:
    environment: dict[str, str] = dict(os.environ)
    run_environment.for_own_ray(environment)
    with ray_token.written(Path(scratch, "ray_token"), environment) as changed:
        os.environ.clear()
        os.environ.update(changed)
        _print_ray_worker(scratch)


def _print_ray_worker(scratch: str) -> None:
    import ray

    # "local", because a bare init() would join a cluster that is already running on this machine.
    retry_slow_ray_start(
        ray.init,
        "local",
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=scratch,
    )
    report = ray.get(ray.remote(registration).remote())
    ray.shutdown()
    print(json.dumps(report))


def registration() -> dict[str, Any]:
    """Import verl, but nothing of ours, and check its registries; raise the error that verl swallowed."""
    from verl.plugin.platform.platform_manager import get_platform
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY

    report = {
        "advantage": PLUGIN_NAME in ADV_ESTIMATOR_REGISTRY,
        "loss": PLUGIN_NAME in POLICY_LOSS_REGISTRY,
        "platform": get_platform().device_name,
    }
    if not report["advantage"] and allows_our_plugin(plugin_policy()):
        import_module("reinforcepp_verl.plugin")
    return report
