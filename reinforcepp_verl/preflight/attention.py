"""The attention of the trained model on a GPU: FlashAttention 2 needs a package that has no wheels."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

from omegaconf import DictConfig

from reinforcepp_verl.common.hardware import accelerator_present
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.machines import FLASH_ATTENTION
from reinforcepp_verl.config.preflight_options import NO_FLASH_ATTENTION
from reinforcepp_verl.config.reading import value
from reinforcepp_verl.preflight.findings import Found, PreflightWarning

INSTALL = "install it with `pip install --no-build-isolation '.[flash-attn]'` in a clone of this repository"
IMPORT_TIMEOUT_S = 60
SEQUENCE_PARALLEL_SIZES = (keys.ULYSSES_SEQUENCE_PARALLEL_SIZE, keys.FSDP_ULYSSES_SEQUENCE_PARALLEL_SIZE)


def check(config: DictConfig) -> Found:
    """Check that FlashAttention 2 imports where it is chosen, and say that it is missing where it is not."""
    if value(config, keys.DEVICE) == "cpu" or not accelerator_present():
        return []
    wanted = [keys.ATTENTION, *([keys.CRITIC_ATTENTION] if value(config, keys.CRITIC_ENABLE) else [])]
    # verl's own default.
    with_flash = [key for key in wanted if (value(config, key) or FLASH_ATTENTION) == FLASH_ATTENTION]
    if with_flash:
        reason = _why_not()
        return [f"{key} is {FLASH_ATTENTION}: {reason}; {INSTALL}, or set {key}=sdpa" for key in with_flash if reason]
    if value(config, keys.ATTENTION) != "sdpa":
        return []
    if split := [key for key in SEQUENCE_PARALLEL_SIZES if (value(config, key) or 1) > 1]:
        return [
            f"{key} is {value(config, key)}, but {keys.ATTENTION} is sdpa: verl splits sequences for FlashAttention "
            f"only, with sdpa each worker would see its part alone; {INSTALL}, or set {key}=1"
            for key in split
        ]
    if importlib.util.find_spec("flash_attn"):
        return []
    message = (
        f"{keys.ATTENTION} is sdpa: flash-attn is not installed, so memory grows with the square of "
        f"{keys.ACTOR_PPO_MAX_TOKEN_LEN_PER_GPU}; to train on long answers, {INSTALL}"
    )
    return [PreflightWarning(NO_FLASH_ATTENTION, message)]


def _why_not() -> str:
    """Return why flash-attn does not import, "" if it does; in a process of its own, because it initializes CUDA."""
    command = [sys.executable, "-c", "import flash_attn"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"flash-attn does not import within {IMPORT_TIMEOUT_S} s"
    said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return f"flash-attn does not import ({said[-1]})" if done.returncode else ""
