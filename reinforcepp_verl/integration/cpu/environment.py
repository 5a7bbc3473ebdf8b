"""Environment variables of a CPU run, set as defaults that the user's exports override."""

from __future__ import annotations

import os
from collections.abc import Mapping

from reinforcepp_verl.common.hardware import cpu_flags

CPU_ENVIRONMENT = {
    "VERL_PLATFORM": "cpu",
    # verl registers its FSDP engines for "cuda" and "npu" only, packing_engine.py for "cpu"; this is verl's own switch.
    "VERL_ENGINE_DEVICE": "cpu",
    # Under the distribution alias (see vllm_alias) vLLM no longer recognizes its own CPU build by the version string.
    "VLLM_TARGET_DEVICE": "cpu",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    # verl sets it too, but only after the fork server has imported vLLM, which reads it then.
    "VLLM_LOGGING_LEVEL": "WARN",
    # With threads bound to cores, several engines on a small machine would compete for the same core.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    # With 1, vLLM replaces the executor `uni` of cluster/cpu.yaml by `mp`. The engine has its own process under verl
    # either way.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # vLLM compiles one function of its sampler even with enforce_eager: seconds, and a C++ compiler, for nothing.
    "TORCHDYNAMO_DISABLE": "1",
    # TransferQueue requests 8 threads on every put and get, and warns each time if there are fewer cores.
    "TQ_NUM_THREADS": "1",
    # Attempts at a connection, one per second: with its default of 3, a busy machine fails the run.
    "TQ_STORAGE_HANDSHAKE_MAX_RETRIES": "25",
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Workers started in advance lack the environment of the run, so that none is ever used.
    "RAY_prestart_worker_first_driver": "0",
    # Ray gives its workers a low priority (15): other work on the machine would nearly stall the run.
    "RAY_worker_niceness": "0",
}

SAME_ON_EVERY_CPU = {
    # torch, MKL and oneDNN choose their code by the processor, and sums in another order round differently.
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}
"""Lets a processor with AVX-512 compute what one with AVX2 computes."""


def with_defaults(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with those added that are not set, or empty."""
    given = {name: value for name, value in environment.items() if value or name not in CPU_ENVIRONMENT}
    return {**CPU_ENVIRONMENT, **given}


def compute_as_elsewhere() -> None:
    """Export `SAME_ON_EVERY_CPU`, but for what is set, to this process and those it starts.

    For tables of results that several machines add to, and the models behind them. torch reads the variables when it
    first computes. A processor without AVX2 computes as it can.
    """
    if "avx2" in cpu_flags():
        os.environ.update({**SAME_ON_EVERY_CPU, **os.environ})


def set_defaults() -> None:
    """Export the variables that are not set yet; processes started later inherit them."""
    os.environ.update(with_defaults(os.environ))
