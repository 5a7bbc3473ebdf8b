"""Detects an accelerator of the machine, whatever is visible to the current process."""

from __future__ import annotations

import os
from pathlib import Path

# Device nodes of NVIDIA, AMD and Ascend drivers. Ray hides GPUs from actors that did not request any (torch then sees
# no device), so a process has to check the machine itself before it falls back to the CPU.
DEVICE_NODES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd", "/dev/davinci_manager")
PLATFORM_VARIABLE = "VERL_PLATFORM"


def accelerator_present() -> bool:
    """Return True if the driver of an accelerator supported by verl is loaded on this machine."""
    return any(Path(node).exists() for node in DEVICE_NODES)


def cpu_platform_wanted() -> bool:
    """Return True if verl should run on the CPU: VERL_PLATFORM=cpu, or unset and no accelerator is present."""
    chosen = os.environ.get(PLATFORM_VARIABLE, "").strip().lower()
    return chosen == "cpu" if chosen else not accelerator_present()
