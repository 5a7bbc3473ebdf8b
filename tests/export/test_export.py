"""Checkpoints that verl's own checkpoint manager saved on two gloo ranks, exported and compared."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model, peft_model
from safetensors.torch import load_file, save_file
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner
from verl.model_merger.base_model_merger import ModelMergerConfig
from verl.model_merger.fsdp_model_merger import FSDPModelMerger
from verl.utils.checkpoint.fsdp_checkpoint_manager import FSDPCheckpointManager

from reinforcepp_verl.checkpoints import manifest, store
from reinforcepp_verl.checkpoints.fsdp_checkpoint import find_checkpoint
from reinforcepp_verl.cli import app
from reinforcepp_verl.export import export_checkpoint, merge_shards, verify_export
from reinforcepp_verl.export.shards import Shards, open_shards
from reinforcepp_verl.tasks.arithmetic_task import build_tokenizer

RANKS = 2
STEP = 7
SHARD = "model_world_size_2_rank_1.pt"
OPTIMIZER = "actor/optim_world_size_2_rank_0.pt"
# 17 rows of the vocabulary and 1 of the only key-value head's group do not divide evenly between two ranks.
SIZES = {"hidden_size": 24, "intermediate_size": 33, "num_attention_heads": 3, "num_key_value_heads": 1}
KINDS = ("plain", "tied", "replicated", "lora")


def build(kind):
    """Return the model of a run, the same on every rank."""
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=17, num_hidden_layers=2, tie_word_embeddings=kind == "tied", initializer_range=0.3, **SIZES
    )
    config.architectures = ["LlamaForCausalLM"]  # as in every config.json; transformers adds it when it saves
    config.pad_token_id, config.bos_token_id, config.eos_token_id = 0, 1, 2
    model = LlamaForCausalLM(config)
    if kind != "lora":
        return model
    # PEFT starts with B = 0, which would add nothing to the weights.
    adapter = LoraConfig(r=2, lora_alpha=8, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    return get_peft_model(model, adapter)


def trained(kind):
    """Return the same model, not sharded."""
    model = build(kind)
    return model.merge_and_unload() if kind == "lora" else model


def save(kind, actor):
    """Shard the model as verl's FSDP2 engine does and have verl save it."""
    shape, names = ((RANKS, 1), ("ddp", "fsdp")) if kind == "replicated" else ((RANKS,), ("fsdp",))
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=names)
    model = build(kind)
    for layer in model.get_base_model().model.layers if kind == "lora" else model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    contents = {"save_contents": ["model"], "load_contents": ["model"]}
    manager = FSDPCheckpointManager(model, processing_class=build_tokenizer(), checkpoint_config=contents)
    manager.save_checkpoint(str(actor), global_step=STEP)


def seal(checkpoint):
    """Add an optimizer, and describe all files as our trainers do."""
    (checkpoint / OPTIMIZER).write_bytes(b"moments")
    written = manifest.describe_files(checkpoint)
    sealed = manifest.Manifest(STEP, RANKS, seed=1, data={}, versions={}, files=written)
    manifest.seal(checkpoint, sealed)
    (checkpoint.parent / store.TRACKER_FILE).write_text(str(STEP))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    processes = []
    try:
        for rank in range(RANKS):
            export_checkpoint = [sys.executable, __file__, str(rank), str(folder)]
            with (folder / f"{rank}.log").open("w") as log:
                environment = {**os.environ, "OMP_NUM_THREADS": "1"}
                processes.append(subprocess.Popen(export_checkpoint, env=environment, stdout=log, stderr=log))
        for process in processes:
            process.wait(timeout=300)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    text = "\n".join((folder / f"{rank}.log").read_text() for rank in range(RANKS))
    assert [process.returncode for process in processes] == [0] * RANKS, text
    return folder


@pytest.fixture(scope="module")
def exported(saved, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "out"
    export(saved / "plain", "--out", out)
    return out


@pytest.fixture
def run(saved, tmp_path):
    """Return a function that copies a saved run, so that a test may damage it."""

    def copy(kind):
        shutil.copytree(saved / kind, tmp_path / kind)
        return tmp_path / kind

    return copy


def checkpoint_of(run):
    return run / "checkpoints" / f"global_step_{STEP}"


def invoke(*arguments):
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def export(*arguments):
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


def refused(*arguments):
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert result.stdout == ""
    return result.stderr


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_exported_model_is_the_one_that_was_sharded(run, tmp_path, kind, dtype):
    out = tmp_path / "new" / "out"
    text = export(run(kind), "--out", out, "--dtype", dtype)
    assert f"global_step_{STEP}: 2 x FSDP" in text and "from the shards as trained" in text
    model = AutoModelForCausalLM.from_pretrained(out)
    expected = trained(kind).to(getattr(torch, dtype)).state_dict()
    assert model.dtype == getattr(torch, dtype)
    assert model.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.chat_template == build_tokenizer().chat_template
    assert tokenizer("12+3=")["input_ids"] == build_tokenizer()("12+3=")["input_ids"]
    manifest = json.loads((out / "export.json").read_text())
    assert (manifest["run"], manifest["step"], manifest["dtype"]) == (kind, STEP, dtype)
    assert manifest["check"]["from_export"] <= manifest["check"]["tolerance"]
    assert (manifest["check"]["from_rounding"] == 0) == (dtype == "float32")
    assert manifest["parameters"] == model.num_parameters()
    assert sorted(path.name for path in out.iterdir()) == manifest["files"]
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_shards_are_merged_to_the_tensors_before_sharding(saved):
    for kind in KINDS:
        shards = open_shards(find_checkpoint(saved / kind))
        expected = trained(kind).state_dict()
        assert set(shards.names) == set(expected)
        assert all(torch.equal(tensor, expected[name]) for name, tensor in shards.items())


def test_verls_merger_itself_rounds_to_bfloat16(saved, tmp_path):
    checkpoint = find_checkpoint(saved / "plain")
    merge_shards._merge(checkpoint, tmp_path / "ours", torch.float32)
    options = {"local_dir": str(checkpoint.actor), "hf_model_config_path": str(checkpoint.model_config)}
    config = ModelMergerConfig(operation="merge", backend="fsdp", target_dir=str(tmp_path / "verls"), **options)
    FSDPModelMerger(config).merge_and_save()
    dtypes = [AutoModelForCausalLM.from_pretrained(tmp_path / name).dtype for name in ("ours", "verls")]
    assert dtypes == [torch.float32, torch.bfloat16]


def change_weight(out):
    weights = load_file(out / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    weights[name] = weights[name].clone()
    weights[name][3, 4] += 2**-8
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})


def lose_weight(out):
    weights = load_file(out / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})


def edit_json(name, **values):
    def edit(out):
        content = json.loads((out / name).read_text())
        (out / name).write_text(json.dumps({**content, **values}))

    return edit


def other_characters(out):
    tokenizer = json.loads((out / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["1"], vocabulary["2"] = vocabulary["2"], vocabulary["1"]
    (out / "tokenizer.json").write_text(json.dumps(tokenizer))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (change_weight, "model.layers.1.mlp.up_proj.weight: the exported weight is not the checkpoint's"),
        (lose_weight, "the exported folder has missing keys: model.norm.weight"),
        (edit_json("config.json", rms_norm_eps=0.1), "rms_norm_eps is 0.1 in the exported config.json and 1e-06 in"),
        (edit_json("config.json", tie_word_embeddings=True), "tie_word_embeddings is True in the exported config.json"),
        (edit_json("config.json", dtype="float32"), "loads as torch.float32, not as torch.bfloat16"),
        (other_characters, "into different tokens than the checkpoint's"),
        (edit_json("tokenizer_config.json", eos_token="="), "a different eos_token_id than the checkpoint's"),
        (lambda out: (out / "chat_template.jinja").unlink(), "a different chat_template than the checkpoint's"),
    ],
)
def test_the_check_finds_what_is_wrong_with_a_folder(saved, exported, tmp_path, damage, message):
    checkpoint, out = find_checkpoint(saved / "plain"), shutil.copytree(exported, tmp_path / "out")
    damage(out)
    with pytest.raises(ValueError, match=re.escape(message)):
        verify_export.check(out, checkpoint.model_config, Shards(checkpoint.shards), torch.bfloat16)


def test_shards_in_the_wrong_order_are_found(saved, exported):
    checkpoint = find_checkpoint(saved / "plain")
    swapped = Shards(checkpoint.shards[::-1])
    with pytest.raises(ValueError, match="the exported weight is not the checkpoint's"):
        verify_export.check(exported, checkpoint.model_config, swapped, torch.bfloat16)


def test_other_log_probs_are_refused_even_if_all_else_is_equal(saved, exported, monkeypatch):
    checkpoint = find_checkpoint(saved / "plain")
    monkeypatch.setattr(verify_export, "TOLERANCE", -1.0)
    with pytest.raises(ValueError, match="log-probs of the exported model differ by 0"):
        verify_export.check(exported, checkpoint.model_config, Shards(checkpoint.shards), torch.bfloat16)


def test_force_replaces_an_earlier_export_and_nothing_else(run, tmp_path):
    source, out = run("plain"), tmp_path / "out"
    export(source, "--out", out)
    assert "holds an earlier export: replace it with --force" in refused(source, "--out", out)
    export(source, "--out", out, "--force", "--dtype", "float32")
    assert json.loads((out / "export.json").read_text())["dtype"] == "float32"
    (out / "notes.txt").write_text("mine")
    assert "out has files of other origin (notes.txt)" in refused(source, "--out", out, "--force")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "config.json").write_text("{}")
    assert "has files of other origin (config.json)" in refused(source, "--out", tmp_path / "taken", "--force")
    (tmp_path / "file").write_text("")
    assert "is a file" in refused(source, "--out", tmp_path / "file")
    (tmp_path / "empty").mkdir()
    export(source, "--out", tmp_path / "empty")


def test_no_gpu_is_used_for_an_adapter_even_if_one_is_present(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(peft_model, "infer_device", lambda: pytest.fail("PEFT chose the device itself"))
    export(saved / "lora", "--out", tmp_path / "out")


def test_a_table_in_a_pipe_is_not_wrapped_and_keeps_brackets(saved, tmp_path):
    out = tmp_path / ("long_" * 30) / "[bold]"
    shown = invoke(saved / "plain", "--out", out).stdout
    assert f"{out}: bfloat16" in shown and shown.count("\n") == 5


def test_a_checkpoint_outside_a_runs_folder_is_named_by_its_path(saved, tmp_path):
    elsewhere = shutil.copytree(checkpoint_of(saved / "plain"), tmp_path / "experiment" / f"global_step_{STEP}")
    export(elsewhere, "--out", tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "export.json").read_text())
    assert manifest["checkpoint"] == str(elsewhere) and "run" not in manifest


@pytest.mark.parametrize("files", [{}, {"files": 3}])
def test_a_folder_whose_note_names_no_files_is_not_replaced(saved, tmp_path, files):
    (tmp_path / "export.json").write_text(json.dumps({"product": "reinforcepp-export", **files}))
    assert "has files of other origin (export.json)" in refused(saved / "plain", "--out", tmp_path, "--force")


@pytest.mark.parametrize("part", ["checkpoints", f"checkpoints/global_step_{STEP}/actor"])
def test_part_of_a_checkpoint_is_not_a_source(saved, tmp_path, part):
    text = refused(saved / "plain" / part, "--out", tmp_path / "out")
    assert "part of a checkpoint, or several checkpoints; give one, RUN/checkpoints/global_step_N" in text


def test_a_stop_is_reported_in_one_line_and_leaves_nothing_behind(saved, tmp_path, monkeypatch):
    def stop(*_):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(export_checkpoint, "check", stop)
    result = invoke(saved / "plain", "--out", tmp_path / "out")
    assert (result.exit_code, result.stderr) == (128 + signal.SIGTERM, "error: stopped by SIGTERM\n")
    assert not list(tmp_path.iterdir())


def remove(name):
    return lambda run: (checkpoint_of(run) / name).unlink()


def garble(shard, pickled):
    """Write a shard with the damaged pickle `pickled`."""

    def damage(run):
        with zipfile.ZipFile(checkpoint_of(run) / "actor" / shard, "w") as archive:
            archive.writestr("archive/data.pkl", pickled)

    return damage


def cut(name):
    return lambda run: os.truncate(checkpoint_of(run) / name, 1000)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove("actor/model_world_size_2_rank_1.pt"), "model_world_size_2_rank_1.pt is missing"),
        (cut("actor/model_world_size_2_rank_1.pt"), "model_world_size_2_rank_1.pt is truncated"),
        (garble(SHARD, b""), f"{SHARD} is damaged; choose another checkpoint"),
        (garble(SHARD, b"\x80\x02X\x01\x00\x00\x00\xff."), f"{SHARD} is damaged"),  # not UTF-8
        (garble(SHARD, b"\x80\x02h\x07."), f"{SHARD} is damaged"),  # refers to an object that was never stored
        (garble(SHARD, b"\x80\x02."), f"{SHARD} is damaged"),  # ends with nothing on its stack
        (garble(SHARD, b"\x80\x02}."), f"{SHARD} is damaged"),  # no tensor in it
        (
            lambda run: (checkpoint_of(run) / "actor/fsdp_config.json").write_text('{"world_size": 0}'),
            "fsdp_config.json: world_size is 0, must be 1 or more",
        ),
        (remove("actor/fsdp_config.json"), "fsdp_config.json is missing: not an FSDP checkpoint, or incomplete"),
        (lambda run: (checkpoint_of(run) / "actor/fsdp_config.json").write_text("{}"), "has no world_size"),
        (remove("actor/huggingface/config.json"), "config.json is missing"),
        (lambda run: (checkpoint_of(run) / "actor/dist_ckpt").mkdir(), "a Megatron checkpoint, and only FSDP"),
    ],
)
def test_incomplete_checkpoints_are_refused_in_one_line(run, tmp_path, damage, message):
    source = run("plain")
    remove(manifest.COMPLETE)(source)
    damage(source)
    before = sorted(tmp_path.iterdir())
    assert message in refused(checkpoint_of(source), "--out", tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


def flip(name):
    """Change one byte, as a failing disk does."""

    def damage(run):
        with (checkpoint_of(run) / name).open("r+b") as stream:
            stream.seek(5000)
            byte = stream.read(1)[0]
            stream.seek(5000)
            stream.write(bytes([byte ^ 1]))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: shutil.rmtree(run / "checkpoints"), "no complete checkpoint in it; train with trainer.save_freq"),
        (
            remove(manifest.COMPLETE),
            "no COMPLETE marker, so the save did not finish; choose another checkpoint of",
        ),
        (lambda run: (run / "checkpoints" / "global_step_9").mkdir(), "global_step_9: no COMPLETE marker"),
        (flip(f"actor/{SHARD}"), f"{SHARD} has changed since it was written; choose another checkpoint of"),
        (remove("actor/huggingface/config.json"), "config.json is missing; choose another checkpoint of"),
    ],
)
def test_the_newest_checkpoint_of_a_run_must_be_as_it_was_saved(run, tmp_path, damage, message):
    source = run("plain")
    damage(source)
    assert message in refused(source, "--out", tmp_path / "out")


def test_the_optimizer_of_a_checkpoint_is_not_needed(run, tmp_path):
    source = run("plain")
    remove(OPTIMIZER)(source)
    export(source, "--out", tmp_path / "out")


def test_an_adapter_without_its_model_is_refused(run, tmp_path):
    checkpoint = find_checkpoint(run("lora"))
    for shard in checkpoint.shards:
        weights = torch.load(shard)
        torch.save({name: tensor for name, tensor in weights.items() if "lora_" in name}, shard)
    (checkpoint.path / manifest.COMPLETE).unlink()
    message = "has only the adapter: train without checkpoint.save_lora_only"
    assert message in refused(checkpoint.path, "--out", tmp_path / "x")


def test_a_missing_source_is_refused(tmp_path):
    assert "nope: no such folder; give a run or RUN/checkpoints/global_step_N" in refused(
        tmp_path / "nope", "--out", tmp_path / "out"
    )


def test_a_full_disk_leaves_nothing_behind(run, tmp_path, monkeypatch):
    source = run("plain")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(2**40, 2**40, 1000))
    assert "GB are free; choose another disk" in refused(source, "--out", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["plain"]


def run_rank(rank, folder):
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'rendezvous'}",
        rank=rank,
        world_size=RANKS,
        timeout=timedelta(seconds=60),  # in case the other rank has died
    )
    for kind in KINDS:
        save(kind, checkpoint_of(folder / kind) / "actor")
    distributed.barrier()
    for kind in KINDS if rank == 0 else ():
        seal(checkpoint_of(folder / kind))
    # gloo's cleanup sometimes hangs when the other rank was faster; nothing is left to clean up.
    os._exit(0)


if __name__ == "__main__":
    run_rank(int(sys.argv[1]), Path(sys.argv[2]))
