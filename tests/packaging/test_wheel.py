"""The wheel, built from the files that git would commit: its contents, and every way to start, outside the checkout."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

ROOT = Path(__file__).resolve().parents[2]
RECIPE = "+recipe=math_rlvr/arithmetic"
SHOW = ("--cfg", "job")
Run = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(300)]


def files_to_commit() -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [name for name in listed if name and (ROOT / name).exists()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build the wheel from a copy, so that it has no ignored files and the checkout stays clean."""
    source, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in files_to_commit():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name, follow_symlinks=False)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(dist), str(source)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    [path] = dist.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """A virtual environment with the wheel and the packages of this one, without our editable install."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    [site] = folder.glob("lib/python*/site-packages")
    # A folder named in a .pth file comes after site-packages, and .pth files in it (our editable install) do not count.
    (site / "outer.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    return folder


@pytest.fixture
def run(environment, tmp_path, monkeypatch) -> Run:
    """Run a program of that environment in an empty folder."""
    monkeypatch.chdir(tmp_path)
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VERL_"))}

    def in_environment(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(environment / "bin" / program), *arguments]
        return subprocess.run(command, env=clean | {"VERL_PLATFORM": "cpu"}, capture_output=True, text=True)

    return in_environment


def config_of(done: subprocess.CompletedProcess[str]) -> DictConfig:
    assert done.returncode == 0, done.stderr
    return OmegaConf.create(done.stdout)


SLURM_FILES = list((ROOT / "recipes" / "slurm").iterdir())


def write_users_config(folder: Path) -> None:
    folder.mkdir()
    (folder / "my_run.yaml").write_text("defaults: [reinforcepp_trainer, _self_]\ntrainer: {log_val_generations: 3}\n")


def test_nothing_but_our_package_lands_at_the_top(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"reinforcepp_verl"}


def test_every_config_and_recipe_is_inside(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    expected = {
        f"reinforcepp_verl/hydra_configs/{path.relative_to(ROOT / folder)}" if folder == "hydra_configs" else
        f"reinforcepp_verl/hydra_configs/recipe/{path.relative_to(ROOT / folder)}"
        for folder in ("hydra_configs", "recipes")
        for path in (ROOT / folder).rglob("*.yaml")
    }  # fmt: skip
    expected |= {f"reinforcepp_verl/hydra_configs/recipe/slurm/{path.name}" for path in SLURM_FILES}
    assert SLURM_FILES and expected <= inside
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "reinforcepp_verl").rglob("*.py")}
    cases = {str(path.relative_to(ROOT)) for path in (ROOT / "reinforcepp_verl" / "conformance").rglob("*.json")}
    page = {str(path.relative_to(ROOT)) for path in (ROOT / "reinforcepp_verl" / "html_report" / "page").iterdir()}
    assert cases and modules | cases | page | {"reinforcepp_verl/conformance/README.md"} <= inside


def test_entry_points(wheel):
    archive = zipfile.ZipFile(wheel)
    [name] = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
    points = configparser.ConfigParser()
    points.read_string(archive.read(name).decode())
    assert dict(points["verl.plugins"]) == {"reinforcepp": "reinforcepp_verl.plugin"}, "a module: verl calls nothing"
    assert ":" in points["vllm.general_plugins"]["reinforcepp_cpu"], "a function: vLLM calls it"
    assert points["console_scripts"]["reinforcepp"] == "reinforcepp_verl.cli:main"


def test_what_runs_is_the_wheel(run, environment):
    code = "import reinforcepp_verl; print(reinforcepp_verl.__file__)"
    done = run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[-1]).is_relative_to(environment)


@pytest.mark.long
def test_recipe_with_plain_overrides(run):
    config = config_of(run("reinforcepp", "train", RECIPE, "+method=rloo", "seed=5", *SHOW))
    assert config.data.train_files == "data/arithmetic/train.parquet"
    assert (config.seed, config.algorithm.adv_estimator) == (5, "leave_one_out")
    assert "recipe" not in config


@pytest.mark.long
def test_config_dir_and_config_name(run, tmp_path):
    write_users_config(tmp_path / "mine")
    options = ("--config-dir", "mine", "--config-name", "my_run", RECIPE, *SHOW)
    config = config_of(run("reinforcepp", "train", *options))
    assert (config.trainer.log_val_generations, config.data.train_batch_size) == (3, 24)


def test_check_names_the_missing_data_and_how_to_make_it(run):
    done = run("reinforcepp", "check", RECIPE)
    assert done.returncode == 0
    assert "data.train_files: no such file: data/arithmetic/train.parquet" in done.stderr
    assert "reinforcepp prepare arithmetic" in done.stderr


@pytest.mark.long
def test_multirun(run):
    done = run("reinforcepp", "create", "--multirun", RECIPE, "seed=1,2")
    assert done.returncode != 0
    assert "reinforcepp prepare arithmetic" in done.stderr


@pytest.mark.long
def test_stock_verl_finds_our_configs(run):
    module = ("-m", "verl.trainer.main_ppo")
    config = config_of(run("python", *module, "--config-name", "reinforcepp_trainer", RECIPE, *SHOW))
    assert config.algorithm.adv_estimator == "reinforcepp"
    assert config.data.train_files == "data/arithmetic/train.parquet"
