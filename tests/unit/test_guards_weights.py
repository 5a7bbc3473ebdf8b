"""Weights that are not finite are found in the shards that verl's checkpoint manager writes, whole or in pieces."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import LlamaConfig, LlamaForCausalLM
from verl.utils.checkpoint.fsdp_checkpoint_manager import FSDPCheckpointManager

from reinforcepp_verl.data.arithmetic import build_tokenizer
from reinforcepp_verl.guards import GuardError
from reinforcepp_verl.guards.weights import finite_weights

RANKS = 2
SICK = "model.layers.1.mlp.down_proj.weight"
SIZES = {"hidden_size": 24, "intermediate_size": 33, "num_attention_heads": 3, "num_key_value_heads": 1}


def build():
    torch.manual_seed(1)
    config = LlamaConfig(vocab_size=17, num_hidden_layers=2, **SIZES)
    config.architectures = ["LlamaForCausalLM"]
    return LlamaForCausalLM(config)


def save(folder, value):
    """Shard the model as verl's FSDP2 engine does, set one weight on the last rank, and have verl save it."""
    model = build()
    mesh = init_device_mesh("cpu", (RANKS,), mesh_dim_names=("fsdp",))
    fully_shard(model, mesh=mesh)
    if distributed.get_rank() == RANKS - 1:
        with torch.no_grad():
            dict(model.named_parameters())[SICK].to_local().view(-1)[-1] = value
    contents = {"save_contents": ["model"], "load_contents": ["model"]}
    manager = FSDPCheckpointManager(model, processing_class=build_tokenizer(), checkpoint_config=contents)
    manager.save_checkpoint(str(folder / "actor"), global_step=1)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    command = [sys.executable, __file__]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [subprocess.Popen([*command, str(rank), str(folder)], env=environment) for rank in range(RANKS)]
    assert [process.wait(timeout=120) for process in processes] == [0] * RANKS
    return folder


def test_finite_shards_pass(saved):
    finite_weights(saved / "0.5", RANKS)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_the_first_bad_parameter_and_its_shard_are_named(saved, value):
    with pytest.raises(GuardError, match=rf"{SICK} in model_world_size_2_rank_1\.pt has NaN or infinite values"):
        finite_weights(saved / value, RANKS)


def test_the_tensors_of_an_adapter_alone_and_an_empty_piece_are_read_too(tmp_path):
    model = get_peft_model(build(), LoraConfig(r=2, target_modules=["q_proj"]))
    adapter = dict(get_peft_model_state_dict(model))
    adapter["piece"] = torch.empty(0, 24)
    (tmp_path / "actor").mkdir()
    file = tmp_path / "actor" / "model_world_size_1_rank_0.pt"
    torch.save(adapter, file)
    finite_weights(tmp_path, 1)
    name = next(name for name in adapter if "lora_B" in name)
    adapter[name].view(-1)[0] = torch.nan
    torch.save(adapter, file)
    with pytest.raises(GuardError, match="lora_B"):
        finite_weights(tmp_path, 1)


def test_a_missing_shard_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="rank_0"):
        finite_weights(tmp_path, 1)


def main(rank, folder):
    store = distributed.FileStore(str(folder / "store"), RANKS)
    distributed.init_process_group("gloo", rank=rank, world_size=RANKS, store=store, timeout=timedelta(seconds=60))
    for value in (0.5, torch.nan, torch.inf, -torch.inf):
        save(folder / str(value), value)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
