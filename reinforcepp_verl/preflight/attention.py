"""The attention of the trained models on a GPU: FlashAttention 2 needs a package that has no wheels."""

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
# Without FlashAttention's forward pass, which verl replaces, each worker would see its part of a sequence alone.
NOT_SPLIT = ("sdpa", "eager", "flex_attention")
ACTOR_SPLITS = (keys.ULYSSES_SEQUENCE_PARALLEL_SIZE, keys.FSDP_ULYSSES_SEQUENCE_PARALLEL_SIZE)
MICRO_BATCHES = {
    keys.ATTENTION: keys.ACTOR_PPO_MAX_TOKEN_LEN_PER_GPU,
    keys.CRITIC_ATTENTION: keys.CRITIC_PPO_MAX_TOKEN_LEN_PER_GPU,
}
CRITIC_SPLITS = (keys.CRITIC_ULYSSES_SEQUENCE_PARALLEL_SIZE, keys.CRITIC_FSDP_ULYSSES_SEQUENCE_PARALLEL_SIZE)


def check(config: DictConfig) -> Found:
    """Check that FlashAttention 2 imports where it is chosen, and say that it is missing where it is not."""
    if value(config, keys.DEVICE) == "cpu" or not accelerator_present():
        return []
    splits = {keys.ATTENTION: ACTOR_SPLITS}
    if value(config, keys.CRITIC_ENABLE):
        splits[keys.CRITIC_ATTENTION] = CRITIC_SPLITS
    # verl's own default.
    chosen = {key: value(config, key) or FLASH_ATTENTION for key in splits}
    with_flash = [key for key, name in chosen.items() if name == FLASH_ATTENTION]
    reason = _why_not() if with_flash else ""
    errors = [f"{key} is {FLASH_ATTENTION}: {reason}; {INSTALL}, or set {key}=sdpa" for key in with_flash if reason]
    errors += [error for key, name in chosen.items() if name in NOT_SPLIT for error in _split(config, key, splits[key])]
    with_sdpa = [key for key, name in chosen.items() if name == "sdpa"]
    if errors or not with_sdpa or importlib.util.find_spec("flash_attn"):
        return [*errors]
    message = (
        f"{with_sdpa[0]} is sdpa: flash-attn is not installed, so memory grows with the square of "
        f"{MICRO_BATCHES[with_sdpa[0]]}; to train on long answers, {INSTALL}"
    )
    return [PreflightWarning(NO_FLASH_ATTENTION, message)]


def _split(config: DictConfig, attention: str, sizes: tuple[str, ...]) -> list[str]:
    name = value(config, attention)
    return [
        f"{key} is {value(config, key)}, but {attention} is {name}: verl splits sequences for FlashAttention only, "
        f"with {name} each worker would see its part alone; {INSTALL}, or set {key}=1"
        for key in sizes
        if (value(config, key) or 1) > 1
    ]


def _why_not() -> str:
    """Return why flash-attn does not import, "" if it does; in a process of its own, because it initializes CUDA."""
    command = [sys.executable, "-c", "import flash_attn"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return f"flash-attn does not import within {IMPORT_TIMEOUT_S} s"
    said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return f"flash-attn does not import ({said[-1]})" if done.returncode else ""
