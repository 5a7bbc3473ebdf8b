"""Hydra finds our configs and recipes with every way to start, from the plain checkout and installed (editable).

tests/packaging/test_wheel.py tests the same for the wheel.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from reinforcepp_verl.config import search_path

ROOT = search_path.config_dir().parent
RECIPE = "+recipe=math_rlvr/arithmetic"
OUR_COMMAND = ("-c", "from reinforcepp_verl.cli import main; main()")
STOCK_VERL = ("-m", "verl.trainer.main_ppo")
SHOW = ("--cfg", "job")

pytestmark = pytest.mark.skipif(not (ROOT / "setup.py").is_file(), reason="not a checkout")


# Two tests are enough to show that a checkout on PYTHONPATH is found like an installed package.
EDITABLE = pytest.mark.parametrize("python", ["editable"], indirect=True)


@pytest.fixture(params=["checkout", "editable"])
def python(request, tmp_path, monkeypatch):
    """Run Python in an empty folder: with the checkout on PYTHONPATH, or with the installed package."""
    if request.param == "checkout":
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=dict(os.environ))

    return run


def config_of(done: subprocess.CompletedProcess[str]) -> DictConfig:
    assert done.returncode == 0, done.stderr
    return OmegaConf.create(done.stdout)


def write_users_config(folder: Path) -> None:
    (folder / "recipe").mkdir(parents=True)
    (folder / "my_run.yaml").write_text("defaults: [reinforcepp_trainer, _self_]\ntrainer: {experiment_name: mine}\n")
    (folder / "recipe" / "mine.yaml").write_text("# @package _global_\ntrainer: {experiment_name: my_recipe}\n")


def test_recipe_and_plain_overrides(python):
    config = config_of(python(*OUR_COMMAND, "train", RECIPE, "+method=grpo", "seed=5", *SHOW))
    assert config.data.train_files == "data/arithmetic/train.parquet"
    assert config.algorithm.adv_estimator == "grpo"
    assert (config.seed, "recipe" in config) == (5, False)


@EDITABLE
def test_a_config_of_the_users_by_name_and_folder(python, tmp_path):
    write_users_config(tmp_path / "mine")
    options = ("--config-dir", "mine", "--config-name", "my_run", RECIPE, "trainer.save_freq=7")
    config = config_of(python(*OUR_COMMAND, "train", *options, *SHOW))
    assert config.trainer.save_freq == 7
    assert config.data.train_batch_size == 24, "from the recipe"
    assert config.algorithm.adv_estimator == "reinforcepp", "from our base"


def test_a_recipe_in_the_users_folder(python, tmp_path):
    write_users_config(tmp_path / "mine")
    config = config_of(python(*OUR_COMMAND, "train", "--config-dir", "mine", "+recipe=mine", *SHOW))
    assert config.trainer.experiment_name == "my_recipe"


@EDITABLE
def test_multirun_composes(python):
    # Without the data the first job stops with this advice, after its composition.
    done = python(*OUR_COMMAND, "create", "--multirun", RECIPE, "seed=1,2")
    assert done.returncode != 0
    assert "data.train_files: no such file: data/arithmetic/train.parquet" in done.stderr
    assert "reinforcepp prepare arithmetic" in done.stderr


@pytest.mark.long
@EDITABLE
def test_multirun_runs_every_job(python, arithmetic, monkeypatch):
    monkeypatch.chdir(arithmetic)
    done = python(*OUR_COMMAND, "check", "--yaml", "--multirun", RECIPE, "seed=1,2")
    assert done.returncode == 0, done.stderr
    assert {"seed: 1", "seed: 2"} <= set(done.stdout.splitlines())


@pytest.mark.long
@EDITABLE
def test_stock_verl_finds_our_configs_because_it_loads_the_plugin(python):
    config = config_of(python(*STOCK_VERL, "--config-name", "reinforcepp_trainer", RECIPE, *SHOW))
    assert config.data.train_files == "data/arithmetic/train.parquet"
    assert config.algorithm.adv_estimator == "reinforcepp"


def test_in_a_checkout_the_recipes_are_a_symlink_beside_the_package():
    assert (ROOT / "hydra_configs" / "recipe").resolve() == ROOT / "recipes"
    assert "math_rlvr/arithmetic" in search_path.recipe_names()


@pytest.mark.long
@EDITABLE
def test_our_names_take_precedence_over_the_users_folder(python, tmp_path):
    # Hydra puts --config-dir after the folders of every plugin, so a user's file needs a different name.
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "reinforcepp_trainer.yaml").write_text("whose: mine\n")
    config = config_of(python(*OUR_COMMAND, "train", "--config-dir", "mine", *SHOW))
    assert "whose" not in config
    assert config.trainer.project_name == "reinforcepp"
