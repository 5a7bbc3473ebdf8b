"""`requirements/pythons.sh`, which finds the Python that `make` installs on."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from reinforcepp_verl.doctor.machine_checks import check_python

SCRIPT = Path(__file__).parents[2] / "requirements" / "pythons.sh"
BARE_PATH = "/usr/bin:/bin"


def pythons(*candidates: str, path: str = BARE_PATH) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": path}
    return subprocess.run(["sh", str(SCRIPT), *candidates], capture_output=True, text=True, env=environment)


def fake_python(folder: Path, name: str, version: str, *, missing: str = "") -> str:
    """A program that runs Python's code as that version would, without the module `missing`."""
    program = folder / name
    code = f"""#!{sys.executable}
import sys
sys.version_info = ({version.replace(".", ", ")}, 0, "final", 0)
sys.executable = {str(program)!r}
sys.modules.update(dict.fromkeys({missing.split()!r}))
exec(sys.argv[2])
"""
    program.write_text(code)
    program.chmod(0o755)
    return str(program)


def test_the_newest_comes_first_and_each_version_once(tmp_path):
    old, new = fake_python(tmp_path, "old", "3.10"), fake_python(tmp_path, "new", "3.12")
    again = fake_python(tmp_path, "again", "3.12")
    assert pythons(old, new, again).stdout.split() == [new, old]


def test_names_on_path_are_tried_and_those_that_fail_are_passed_over(tmp_path):
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    fake_python(tmp_path, "python3.11", "3.11", missing="ensurepip")
    found = fake_python(tmp_path, "python3.10", "3.10")
    fake_python(tmp_path, "python3", "3.13")
    assert pythons(path=f"{tmp_path}:{BARE_PATH}").stdout.split() == [found]


@pytest.mark.parametrize("version", ["3.9", "3.13"])
def test_without_a_suitable_one_a_line_names_what_to_install(tmp_path, version):
    candidate = fake_python(tmp_path, "python", version)
    done = pythons(candidate)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert candidate in line and "python3-venv" in line and "make PYTHON=" in line


@pytest.mark.parametrize("minor", range(9, 15))
def test_the_script_the_package_and_doctor_agree(tmp_path, minor):
    wanted = SpecifierSet(metadata.metadata("reinforcepp-verl")["Requires-Python"])
    candidate = fake_python(tmp_path, "python", f"3.{minor}")
    assert (pythons(candidate).returncode == 0) == wanted.contains(f"3.{minor}")
    assert (check_python((3, minor)).status == "ok") == wanted.contains(f"3.{minor}")
