"""Whether this machine has an accelerator, asked of the machine and not of the current process."""

from __future__ import annotations

import os
from pathlib import Path

# Device nodes of NVIDIA, AMD and Ascend drivers. Ray hides GPUs from actors that asked for none (torch then sees no
# device there), so a process on a GPU machine must look at the machine itself before it calls the machine a CPU one.
DEVICE_NODES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd", "/dev/davinci_manager")
PLATFORM_VARIABLE = "VERL_PLATFORM"


def accelerator_present() -> bool:
    """Return True when the driver of an accelerator that verl supports is loaded on this machine."""
    return any(Path(node).exists() for node in DEVICE_NODES)


def cpu_platform_wanted() -> bool:
    """Return True when verl should run on the CPU: asked for by VERL_PLATFORM=cpu, or nothing else is there."""
    chosen = os.environ.get(PLATFORM_VARIABLE, "").strip().lower()
    return chosen == "cpu" if chosen else not accelerator_present()
