"""Checkpoints on disk: which are complete, found and deleted, and which settings a run may change."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from reinforcepp_verl.checkpoints import compatibility, manifest, store
from reinforcepp_verl.checkpoints.manifest import DamagedCheckpointError, Manifest
from reinforcepp_verl.common import durable


def staged(root, step, weights=b"weights" * 1000, attempt="attempt_1"):
    folder = store.begin_save(root, attempt) / store.folder_name(step)
    (folder / "actor").mkdir(parents=True)
    (folder / "actor" / "model.pt").write_bytes(weights)
    (folder / "data.pt").write_bytes(b"position")
    return folder


def saved(root, step, config=None, world_size=1):
    folder = staged(root, step)
    if config is not None:
        OmegaConf.save(config, folder / store.CONFIG_FILE)
    data = compatibility.data_digests(config) if config is not None else {}
    return store.commit_save(folder, root, Manifest(step, world_size, 1, data, {}, manifest.describe_files(folder)))


def test_a_save_gets_its_name_only_once_it_is_sealed(tmp_path):
    folder = staged(tmp_path, 3)
    assert store.checkpoint_steps(tmp_path) == [] and store.newest_checkpoint(tmp_path) == (None, [])
    sealed = Manifest(3, 1, 1, {}, {}, manifest.describe_files(folder))
    assert store.commit_save(folder, tmp_path, sealed) == tmp_path / "global_step_3"
    found, ignored = store.newest_checkpoint(tmp_path)
    assert found is not None and (found.manifest, ignored) == (sealed, [])
    assert (tmp_path / store.TRACKER_FILE).read_text() == "3"
    assert not (tmp_path / store.SAVING_FOLDER).exists()


def test_a_trainer_that_outlives_its_attempt_writes_into_no_other_save(tmp_path):
    new = staged(tmp_path, 3, attempt="attempt_2")
    old = staged(tmp_path, 3, b"others", attempt="attempt_1")
    (old / "shard").touch()
    sealed = Manifest(3, 1, 1, {}, {}, manifest.describe_files(new))
    store.commit_save(new, tmp_path, sealed)
    found, ignored = store.newest_checkpoint(tmp_path)
    assert found is not None and ignored == [] and old.exists()
    assert sealed.files.keys() == {"actor/model.pt", "data.pt"} and not (found.path / "shard").exists()
    store.clear_leftovers(tmp_path)
    assert not (tmp_path / store.SAVING_FOLDER).exists()


def test_the_manifest_holds_size_and_digest_of_every_file(tmp_path):
    folder = saved(tmp_path, 3)
    files = json.loads((folder / manifest.MANIFEST).read_text())["files"]
    assert files.keys() == {"actor/model.pt", "data.pt"}
    # xxhsum -H2 of the text "position".
    assert files["data.pt"]["bytes"] == 8 and len(files["data.pt"]["xxh3_128"]) == 32
    assert files["data.pt"]["xxh3_128"] == manifest.digest(folder / "data.pt") != manifest.digest(folder / "COMPLETE")


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        ("COMPLETE", os.unlink, "the save did not finish"),
        ("COMPLETE", lambda path: path.write_bytes(b"\xff\x00"), "has changed since COMPLETE was written"),
        ("manifest.json", os.unlink, "the save did not finish"),
        ("manifest.json", flip, "has changed since COMPLETE was written"),
        ("data.pt", os.unlink, "is missing"),
        ("actor/model.pt", cut, "has 6999 bytes, not 7000"),
        ("actor/model.pt", flip, "has changed since it was written"),
    ],
)
def test_a_damaged_checkpoint_is_ignored_with_the_reason_and_the_previous_one_is_used(tmp_path, file, damage, reason):
    saved(tmp_path, 2)
    damage(saved(tmp_path, 4) / file)
    found, ignored = store.newest_checkpoint(tmp_path)
    assert found is not None and found.path == tmp_path / "global_step_2"
    assert len(ignored) == 1 and reason in ignored[0] and "global_step_4" in ignored[0]


def test_a_manifest_of_another_version_is_named(tmp_path):
    folder = saved(tmp_path, 2)
    durable.write(folder / manifest.MANIFEST, b'{"step": 2}')
    durable.write(folder / manifest.COMPLETE, manifest.digest(folder / manifest.MANIFEST).encode())
    with pytest.raises(DamagedCheckpointError, match="not a manifest of this version"):
        manifest.read(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [("files", None), ("files", {"data.pt": 8}), ("files", {"data.pt": {}}), ("step", "2"), ("data", [])],
)
def test_a_manifest_with_a_field_of_another_type_is_named(tmp_path, field, value):
    folder = saved(tmp_path, 2)
    content = json.loads((folder / manifest.MANIFEST).read_bytes()) | {field: value}
    durable.write(folder / manifest.MANIFEST, json.dumps(content).encode())
    durable.write(folder / manifest.COMPLETE, manifest.digest(folder / manifest.MANIFEST).encode())
    found, (reason,) = store.newest_checkpoint(tmp_path)
    assert found is None and f"{folder / manifest.MANIFEST}: not a manifest of this version" in reason


def test_a_manifest_must_be_that_of_its_folder(tmp_path):
    saved(tmp_path, 2)
    saved(tmp_path, 4).rename(tmp_path / "global_step_6")
    found, (reason,) = store.newest_checkpoint(tmp_path)
    assert found is not None and found.path.name == "global_step_2"
    assert reason == (
        f"{tmp_path}/global_step_6/manifest.json is that of global_step_4: the folder was renamed, or the file copied"
    )
    assert store.prune(tmp_path, 1, 6) == []


def test_a_damaged_checkpoint_is_kept_when_the_run_reaches_its_step_again(tmp_path):
    flip(saved(tmp_path, 4) / "data.pt")
    saved(tmp_path, 4)
    flip(tmp_path / "global_step_4" / "data.pt")
    saved(tmp_path, 4)
    names = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert names == {"global_step_4", "global_step_4.damaged", "global_step_4.damaged_2"}
    assert store.newest_checkpoint(tmp_path)[1] == []


def test_pruning_keeps_the_newest_complete_ones_and_foreign_files(tmp_path):
    for step in (1, 2, 3, 10):
        saved(tmp_path, step)
    (tmp_path / "global_step_11").mkdir()
    assert store.prune(tmp_path, None, 10) == store.prune(tmp_path, 0, 10) == []
    assert [path.name for path in store.prune(tmp_path, 2, 10)] == ["global_step_2", "global_step_1"]
    assert store.checkpoint_steps(tmp_path) == [11, 10, 3]
    assert [path.name for path in store.prune(tmp_path, 1, 10)] == ["global_step_3"]
    assert store.checkpoint_steps(tmp_path) == [11, 10]


def test_pruning_does_not_count_a_damaged_checkpoint_as_the_newest(tmp_path):
    saved(tmp_path, 30)
    flip(saved(tmp_path, 45) / "data.pt")
    saved(tmp_path, 35)
    assert [path.name for path in store.prune(tmp_path, 1, 35)] == ["global_step_30"]
    assert store.newest_checkpoint(tmp_path)[0].manifest.step == 35


def test_remains_of_an_interrupted_save_or_deletion_are_removed(tmp_path):
    saved(tmp_path, 1)
    staged(tmp_path, 2)
    (tmp_path / store.DELETING_FOLDER / "global_step_0").mkdir(parents=True)
    store.clear_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"global_step_1", store.TRACKER_FILE}


SAVE_AND_DIE = """
import os, sys
from pathlib import Path
from reinforcepp_verl.checkpoints import manifest, store
from reinforcepp_verl.common import durable
root, moment = Path(sys.argv[1]), int(sys.argv[2])
calls = 0
def die_at_moment(function):
    def call(*args):
        global calls
        calls += 1
        if calls == moment:
            os._exit(9)
        return function(*args)
    return call
durable.sync = die_at_moment(durable.sync)
durable.os.replace = die_at_moment(os.replace)
Path.rename = die_at_moment(Path.rename)
folder = store.begin_save(root, "attempt_1") / "global_step_2"
folder.mkdir()
(folder / "weights").write_bytes(b"new")
files = manifest.describe_files(folder)
store.commit_save(folder, root, manifest.Manifest(2, 1, 1, {}, {}, files))
store.prune(root, 1, 2)
print(calls)
"""


def test_a_kill_at_any_disk_call_leaves_the_old_or_the_new_checkpoint(tmp_path):
    def attempt(moment):
        root = tmp_path / str(moment)
        saved(root, 1)
        done = subprocess.run([sys.executable, "-c", SAVE_AND_DIE, root, str(moment)], capture_output=True, text=True)
        return root, done

    _, whole = attempt(0)
    moments = int(whole.stdout)
    assert moments > 10
    found = []
    for moment in range(1, moments + 1):
        root, done = attempt(moment)
        assert done.returncode == 9, done.stderr
        newest, ignored = store.newest_checkpoint(root)
        assert newest is not None and ignored == []
        found.append(newest.manifest.step)
    assert found == sorted(found) and set(found) == {1, 2}


BASE = {
    "actor_rollout_ref": {"actor": {"strategy": "fsdp2", "optim": {"lr": 1e-6}}, "model": {"lora_rank": 0}},
    "critic": {"enable": False},
    "data": {"train_batch_size": 24, "shuffle": True, "seed": 1, "max_prompt_length": 16},
    "algorithm": {"adv_estimator": "reinforcepp"},
    "trainer": {"nnodes": 1, "n_gpus_per_node": 2, "total_training_steps": 4, "resume_mode": "auto"},
    "ray_kwargs": {"ray_init": {"address": "local"}},
}


@pytest.fixture
def checkpoint(tmp_path):
    """Return a saved checkpoint and a function that returns its configuration with changes."""
    file = tmp_path / "train.parquet"
    file.write_bytes(b"rows")

    def config(**changes):
        made = OmegaConf.create(BASE)
        made.data.train_files = str(file)
        for key, value in changes.items():
            OmegaConf.update(made, key.replace("__", "."), value)
        return made

    saved(tmp_path / "checkpoints", 4, config(), world_size=2)
    return store.newest_checkpoint(tmp_path / "checkpoints")[0], config


def test_the_same_configuration_may_resume(checkpoint):
    found, config = checkpoint
    assert compatibility.incompatibilities(found, config()) == compatibility.changed_settings(found, config()) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trainer__n_gpus_per_node": 1}, "n_gpus_per_node is 1, and {path} has 2 shards"),
        ({"data__train_batch_size": 48}, "data.train_batch_size is 48, and {path} was saved with 24"),
        ({"data__seed": 2}, "data.seed is 2"),
        ({"actor_rollout_ref__actor__strategy": "fsdp"}, "actor.strategy is fsdp"),
        ({"critic__enable": True}, "critic.enable is True"),
        ({"critic__enable": None, "algorithm__adv_estimator": "gae"}, "critic.enable is True"),
    ],
)
def test_an_incompatible_setting_is_refused_with_key_and_fix(checkpoint, change, words):
    found, config = checkpoint
    (line,) = compatibility.incompatibilities(found, config(**change))
    assert words.format(path=found.path) in line and "reinforcepp export" in line


def test_other_rows_are_refused_and_moved_files_are_not(checkpoint, tmp_path):
    found, config = checkpoint
    (tmp_path / "moved.parquet").write_bytes(b"rows")
    assert compatibility.incompatibilities(found, config(data__train_files=str(tmp_path / "moved.parquet"))) == []
    (tmp_path / "train.parquet").write_bytes(b"other rows")
    (line,) = compatibility.incompatibilities(found, config())
    assert "data.train_files have different rows" in line


def test_other_settings_are_reported_and_those_of_the_machine_are_not(checkpoint):
    found, config = checkpoint
    changed = config(
        actor_rollout_ref__actor__optim__lr=1e-5,
        algorithm__adv_estimator="rloo",
        ray_kwargs__ray_init__address="auto",
        trainer__resume_mode="resume_path",
    )
    assert compatibility.incompatibilities(found, changed) == []
    assert compatibility.changed_settings(found, changed) == [
        "actor_rollout_ref.actor.optim.lr: 1e-06 -> 1e-05",
        "algorithm.adv_estimator: reinforcepp -> rloo",
    ]
