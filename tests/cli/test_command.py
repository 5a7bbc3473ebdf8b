"""The command itself: its version, and its other name."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

from typer.testing import CliRunner

from reinforcepp_verl.cli import app
from reinforcepp_verl.config import search_path


def test_version_is_that_of_the_installed_package():
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"reinforcepp-verl {metadata.version('reinforcepp-verl')}\n")


def test_help_is_about_the_project_and_lists_the_commands():
    help_text = CliRunner().invoke(app, ["--help"]).stdout
    assert "REINFORCE++ on verl" in help_text
    assert all(name in help_text for name in ("--version", "train", "slurm"))


def test_the_help_of_train_lists_the_methods():
    help_text = CliRunner().invoke(app, ["train", "--help"]).stdout
    words = set(help_text.replace(",", " ").replace("(", " ").replace(")", " ").split())
    assert {path.stem for path in (search_path.config_dir() / "method").glob("*.yaml")} <= words


def test_the_package_runs_as_a_module(tmp_path):
    command = [sys.executable, "-m", "reinforcepp_verl", "train", "+recipe=math_rlvr/arithmetic", "--cfg", "job"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "adv_estimator: reinforcepp" in done.stdout
