"""The accelerators of this machine, whatever is visible to the current process, and its processor."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

# Device nodes of NVIDIA, AMD and Ascend drivers. Ray hides GPUs from actors that did not request any (torch then sees
# no device), so a process has to check the machine itself before it falls back to the CPU.
DEVICE_NODES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd", "/dev/davinci_manager")
PLATFORM_VARIABLE = "VERL_PLATFORM"
VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"
ANSWER_S = 10
GIB = 2**30


def accelerator_present() -> bool:
    """Return True if the driver of an accelerator supported by verl is loaded on this machine."""
    return any(Path(node).exists() for node in DEVICE_NODES)


def cpu_platform_wanted() -> bool:
    """Return True if verl should run on the CPU: VERL_PLATFORM=cpu, or unset and no accelerator is present."""
    chosen = os.environ.get(PLATFORM_VARIABLE, "").strip().lower()
    return chosen == "cpu" if chosen else not accelerator_present()


def gpu_count() -> int | None:
    """Return the number of GPUs in CUDA_VISIBLE_DEVICES or, if that is unset, of this machine; None if it is unknown.

    A machine on which verl would run on the CPU counts as one; the preflight refuses a run on accelerators there.
    """
    if visible := os.environ.get(VISIBLE_VARIABLE, "").strip():
        return len(visible.split(","))
    return len(gpu_memories_gib()) or (1 if cpu_platform_wanted() else None)


@functools.cache
def gpu_memories_gib() -> tuple[float, ...]:
    """Query NVIDIA's driver for the memory of each GPU; empty if it does not answer.

    torch would use some of that memory for as long as this process lives.
    """
    if shutil.which("nvidia-smi") is None:
        return ()
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, check=False)
    except subprocess.TimeoutExpired:
        return ()
    lines = answer.stdout.split() if answer.returncode == 0 else []
    return tuple(int(line) / 1024 for line in lines if line.isdecimal())


def cpu_flags() -> frozenset[str]:
    """Return the names of what an x86 processor can do; none on others."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return frozenset(next((line.split(":")[1] for line in lines if line.startswith("flags")), "").split())
