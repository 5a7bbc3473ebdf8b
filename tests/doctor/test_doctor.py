"""The checks behind `reinforcepp doctor`, and how it prints them. No Ray, verl or vLLM is started."""

from __future__ import annotations

import typer
from packaging.specifiers import SpecifierSet
from typer.testing import CliRunner

from reinforcepp_verl.cli.doctor import doctor
from reinforcepp_verl.doctor import machine_checks
from reinforcepp_verl.doctor.machine_checks import Finding
from reinforcepp_verl.doctor.subprocess_probes import NO_ANSWER

app = typer.Typer()
app.command()(doctor)

REGISTERED = {"advantage": True, "loss": True, "platform": "cpu"}


def test_a_version_outside_the_requirement_fails_and_an_untried_one_warns():
    required, tested = SpecifierSet(">=2.11"), SpecifierSet("==2.13.0")
    assert machine_checks.check_version("torch", "2.13.0+cpu", required, tested).status == "ok"
    untried = machine_checks.check_version("torch", "2.12.0", required, tested)
    assert (untried.status, untried.fix) == ("warn", "pip install torch==2.13.0")
    assert machine_checks.check_version("torch", "2.10.0", required, tested).status == "fail"


def test_a_missing_package_fails_except_the_optional_one():
    assert machine_checks.check_version("ray", None, SpecifierSet(), SpecifierSet()).status == "fail"
    flash = machine_checks.check_version("flash-attn", None, SpecifierSet(), SpecifierSet("==2.8.3"))
    assert (flash.status, flash.fix) == ("warn", machine_checks.FLASH_ATTENTION_FIX)


def test_pins_are_read_from_our_metadata_and_from_verls():
    findings = {finding.name: finding.detail for finding in machine_checks.packages("cpu")}
    assert "==0.9.1" in findings["verl"]
    assert "==2.13.0" in findings["torch"]
    assert "<=0.10.0" in findings["tensordict"]
    assert "flash-attn" not in findings
    assert "flash-attn" in {finding.name for finding in machine_checks.packages("gpu")}


def test_the_pythons_that_verl_allows_are_accepted():
    statuses = [machine_checks.check_python((3, minor)).status for minor in range(9, 14)]
    assert statuses == ["fail", "ok", "ok", "ok", "fail"]


def test_accelerator_decides_the_cluster_file():
    assert "cluster=local" in machine_checks.check_accelerator(True, "").detail
    assert "cluster=cpu" in machine_checks.check_accelerator(True, "cpu").detail
    assert "cluster=cpu" in machine_checks.check_accelerator(False, "").detail
    assert machine_checks.check_accelerator(False, "nvidia").status == "fail"


def test_too_small_an_amount_warns_with_a_fix():
    little = machine_checks.check_amount("/dev/shm", 0.0625, 0.5, "GiB free", "enlarge it")
    assert little == Finding("/dev/shm", "warn", "0.1 GiB free", "enlarge it")
    assert machine_checks.check_amount("CPU cores", 2, 2, "", "more").status == "ok"


def test_instruction_set_matters_on_an_x86_cpu_only():
    assert machine_checks.check_instruction_set("x86_64", frozenset({"sse4_2"}), "cpu").status == "fail"
    assert (
        machine_checks.check_instruction_set("x86_64", frozenset({"avx2", "avx512f"}), "cpu").detail == "avx2, avx512f"
    )
    assert machine_checks.check_instruction_set("x86_64", frozenset(), "gpu").status == "ok"
    assert machine_checks.check_instruction_set("aarch64", frozenset(), "cpu").status == "ok"


def test_facts_of_this_machine_can_be_read():
    assert machine_checks.memory_limit() > 0
    assert machine_checks.check_entry_points().status == "ok"


def test_registration_status():
    def status(kind="cpu", **changes):
        return machine_checks.check_registration("plugin", {**REGISTERED, **changes}, kind).status

    assert status() == "ok"
    assert status(loss=False) == status(advantage=False) == status(error="ImportError: x") == "fail"
    assert status(platform="cuda") == "fail"
    assert status(platform="cuda", kind="gpu") == "ok"
    assert status(error=NO_ANSWER) == "warn"


def test_vllm_status():
    cpu, none = {"platform": "CpuPlatform", "device": "cpu"}, {"platform": "UnspecifiedPlatform", "device": ""}
    assert "community build" in machine_checks.check_vllm(cpu, "cpu").detail
    assert "VLLM_TARGET_DEVICE" in machine_checks.check_vllm(none, "cpu").fix
    assert machine_checks.check_vllm(none, "gpu").status == "fail"
    assert machine_checks.check_vllm({"error": "ImportError: libx"}, "cpu").status == "fail"


def run_doctor(monkeypatch, *findings: Finding):
    monkeypatch.setattr(machine_checks, "run_checks", lambda *, ray: [*findings, Finding("ray", "ok", str(ray))])
    return CliRunner().invoke(app, ["--no-ray"], env={"COLUMNS": "120"})


def test_doctor_prints_a_line_per_check_and_the_fix_of_what_is_wrong(monkeypatch):
    result = run_doctor(monkeypatch, Finding("memory", "warn", "8.0 GiB [of 16]", "give it [more]"))
    assert result.exit_code == 0
    lines = [line.split() for line in result.output.splitlines()]
    assert ["memory", "warn", "8.0", "GiB", "[of", "16]"] in lines
    assert ["ray", "ok", "False"] in lines
    assert "  memory: give it [more]" in result.output


def test_doctor_exits_with_one_after_a_fail_and_adds_nothing_when_all_is_well(monkeypatch):
    assert run_doctor(monkeypatch, Finding("torch", "fail", "not installed", "install it")).exit_code == 1
    fine = run_doctor(monkeypatch)
    assert fine.exit_code == 0
    assert "what to do" not in fine.output
