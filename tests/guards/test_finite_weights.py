"""Non-finite weights are found in the shards of a checkpoint, on any rank."""

from __future__ import annotations

import pytest
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from reinforcepp_verl.guards import GuardError
from reinforcepp_verl.guards.finite_weights import check_finite_weights

RANKS = 2
SICK = "model.layers.1.mlp.down_proj.weight"


def weights(rank):
    """Return a rank's tensors: rows of 3; the second rank has one row less, and no row of the last tensor."""
    rows = 2 - rank
    return {
        "model.embed_tokens.weight": torch.full((rows, 3), 0.5, dtype=torch.bfloat16),
        SICK: torch.full((rows, 3), -0.5),
        "model.norm.weight": torch.ones(1 - rank, 3),
        "model.steps": torch.tensor([rank]),
    }


def save(folder, value):
    """Write both shards as verl does, as DTensors, `value` in the last element of one of the second rank's tensors."""
    for rank in range(RANKS):
        distributed.init_process_group("fake", rank=rank, world_size=RANKS, store=FakeStore())
        mesh = init_device_mesh("cpu", (RANKS,), mesh_dim_names=("fsdp",))
        local = weights(rank)
        if rank == RANKS - 1:
            local[SICK].view(-1)[-1] = value
        state = {name: DTensor.from_local(tensor, mesh, [Shard(0)], run_check=False) for name, tensor in local.items()}
        torch.save(state, folder / f"model_world_size_{RANKS}_rank_{rank}.pt")
        distributed.destroy_process_group()


def test_finite_shards_pass(tmp_path):
    save(tmp_path, 0.5)
    check_finite_weights(tmp_path, RANKS)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_the_first_bad_parameter_and_its_shard_are_named(tmp_path, value):
    save(tmp_path, value)
    with pytest.raises(GuardError, match=rf"{SICK} in model_world_size_2_rank_1\.pt has NaN or infinite values"):
        check_finite_weights(tmp_path, RANKS)


def test_plain_tensors_such_as_those_of_an_adapter_alone_are_read_too(tmp_path):
    file = tmp_path / "model_world_size_1_rank_0.pt"
    adapter = {f"base_model.model.q_proj.lora_{part}.default.weight": torch.zeros(2, 4) for part in "AB"}
    torch.save(adapter, file)
    check_finite_weights(tmp_path, 1)
    adapter["base_model.model.q_proj.lora_B.default.weight"][0, 0] = torch.nan
    torch.save(adapter, file)
    with pytest.raises(GuardError, match="lora_B"):
        check_finite_weights(tmp_path, 1)


def test_a_missing_shard_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="rank_0"):
        check_finite_weights(tmp_path, 1)
