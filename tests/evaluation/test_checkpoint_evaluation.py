"""The configuration with which `reinforcepp eval CHECKPOINT` validates: the run's own, and what --set changes."""

from __future__ import annotations

import json
import zipfile

import pytest
from omegaconf import OmegaConf
from typer.testing import CliRunner

from reinforcepp_verl.checkpoints.fsdp_checkpoint import find_checkpoint
from reinforcepp_verl.cli import app
from reinforcepp_verl.common.run_folder import create
from reinforcepp_verl.evaluation.generate import prepare
from reinforcepp_verl.runs import launch

RECIPE = "+recipe=math_rlvr/arithmetic"
ROLLOUT = "actor_rollout_ref.rollout"
STEP = 40


@pytest.fixture
def checkpoint(compose, arithmetic, tmp_path, monkeypatch):
    """The path of a checkpoint in a run folder as `reinforcepp train` leaves it, with fake weights."""
    monkeypatch.chdir(arithmetic)
    config = compose(RECIPE, f"{ROLLOUT}.seed=5", "trainer.validation_data_dir=/elsewhere", "trainer.save_freq=40")
    run = create(tmp_path / "runs", "mine")
    launch.save_config(config, run)
    actor = run.checkpoints / f"global_step_{STEP}" / "actor"
    (actor / "huggingface").mkdir(parents=True)
    (actor / "huggingface" / "config.json").write_text("{}")
    (actor / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": 1}))
    with zipfile.ZipFile(actor / "model_world_size_1_rank_0.pt", "w") as shard:
        shard.writestr("archive/data.pkl", "")
    return actor.parent


def plain(config):
    return OmegaConf.to_container(config, resolve=True)


def test_the_runs_own_configuration_validates_the_checkpoint_and_writes_nothing_into_the_runs_folders(checkpoint):
    found = plain(prepare(find_checkpoint(checkpoint), []).config)
    expected = plain(OmegaConf.load(checkpoint.parents[1] / "config.yaml"))
    expected["trainer"] |= {
        "val_only": True,
        "val_before_train": True,
        "resume_mode": "resume_path",
        "resume_from_path": str(checkpoint),
        "default_local_dir": None,
        "validation_data_dir": None,
    }
    for node in (expected["actor_rollout_ref"]["actor"], expected["critic"]):
        node["checkpoint"]["load_contents"] = ["model"]
    assert found == expected


def test_settings_reach_interpolations_unless_the_run_had_overridden_them(checkpoint):
    overrides = ["data.max_response_length=6", "seed=9", f"{ROLLOUT}.val_kwargs.n=8", "data.val_files=[a.b, c]"]
    with pytest.raises(ValueError, match=r"data.val_files: no such file: a\.b"):
        prepare(find_checkpoint(checkpoint), overrides)
    config = prepare(find_checkpoint(checkpoint), overrides[:-1]).config
    assert config.actor_rollout_ref.rollout.response_length == 6
    assert config.actor_rollout_ref.rollout.val_kwargs.n == 8
    assert (config.data.seed, config.actor_rollout_ref.rollout.seed) == (9, 5)


def test_a_key_that_is_newer_than_the_run_gets_its_default(checkpoint):
    file = checkpoint.parents[1] / "config.yaml"
    saved = OmegaConf.load(file)
    del saved.trainer.v1.sampler.sampler_kwargs.stall_deadline_s
    OmegaConf.save(saved, file)
    assert prepare(find_checkpoint(checkpoint), []).config.trainer.v1.sampler.sampler_kwargs.stall_deadline_s > 0


def invoke(*arguments):
    result = CliRunner().invoke(app, ["eval", *map(str, arguments)])
    assert result.exit_code == 2, result.output
    assert all(line.startswith("error: ") and line != "error: " for line in result.stderr.splitlines())
    assert result.stdout == ""
    return result.stderr


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("foo", "--set foo: write key=value"),
        ("=1", "--set =1: write key=value"),
        ("trainer.val_only=false", "an evaluation sets trainer.val_only itself; remove it"),
        ("model_engine=foo", "an evaluation sets model_engine itself; remove it"),
        (
            "reward_errors=5",
            "--set reward_errors=5: reward_errors is a node; set one of its keys, such as reward_errors.score",
        ),
        ("trainer.validation_data_dir=x", "an evaluation sets trainer.validation_data_dir itself"),
        ("data.val_filez=x", "data.val_filez: unknown key; did you mean data.val_files?"),
        ("data.val_files=nope.parquet", "data.val_files: no such file: nope.parquet"),
        ("data.val_files=[1", "--set data.val_files=[1: while parsing a flow sequence"),
        ("trainer.n_gpus_per_node=2", "has 1 shards, which need as many workers; leave both unchanged"),
        ("trainer.v1.sampler.sampler_kwargs.stall_deadline_s=x", "could not be converted to Float"),
    ],
)
def test_settings_are_checked_before_anything_starts(checkpoint, setting, message):
    assert message in invoke(checkpoint, "--set", setting)
    assert not (checkpoint.parents[1] / "evaluations").exists()


def test_sources_are_checked_before_anything_starts(checkpoint, tmp_path):
    graded = tmp_path / "graded.jsonl"
    graded.write_text('{"question": "q", "acc": 1}\n')
    assert "no such file or folder" in invoke(checkpoint, tmp_path / "nope")
    assert "are the same file" in invoke(checkpoint, checkpoint)
    assert "--step chooses from a folder of dumps, and this is a checkpoint" in invoke(checkpoint, "--step", 3)
    assert "applies to checkpoints only, and no source is a checkpoint" in invoke(graded, "--set", "seed=2")
    (checkpoint.parents[1] / "config.yaml").unlink()
    assert "no config.yaml; give the folder of a run" in invoke(graded, checkpoint)
    (checkpoint / "actor" / "model_world_size_1_rank_0.pt").unlink()
    assert "model_world_size_1_rank_0.pt is missing" in invoke(checkpoint)
    assert not (checkpoint.parents[1] / "evaluations").exists()
