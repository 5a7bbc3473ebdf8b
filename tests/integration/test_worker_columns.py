"""Training workers receive tensors; what else the TransferQueue has stays there."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys

import pytest
from verl.trainer.ppo.v1.trainer_base import PPOTrainer

from reinforcepp_verl.integration.cpu.environment import CPU_ENVIRONMENT
from reinforcepp_verl.integration.trainers import ReinforceppColocateAsync, ReinforceppSeparateAsync, ReinforceppSync
from reinforcepp_verl.integration.worker_columns import TensorsForWorkers

DRIVER = """
import ray, torch, transfer_queue as tq
from omegaconf import OmegaConf
from verl.utils.tensordict_utils import list_of_dict_to_tensordict
from verl.utils.transferqueue_utils import tqbridge
from reinforcepp_verl.common.slow_ray_start import retry_slow_ray_start
from reinforcepp_verl.integration.worker_columns import only_for_workers

retry_slow_ray_start(ray.init, address="local", num_cpus=4, include_dashboard=False)
tq.init(OmegaConf.create({"backend": {"SimpleStorage": {"num_data_storage_units": 1}}}))
TENSORS = {"input_ids", "rm_scores"}

def rows(lengths):
    return list_of_dict_to_tensordict([
        {
            "input_ids": torch.arange(length),
            "rm_scores": torch.tensor([0.5]),
            "raw_prompt": [{"role": "user"}],
            "extra_fields": {"reward_extra_info": {"acc": 1.0}},
            "multi_modal_inputs": {},
        }
        for length in lengths
    ])

@tqbridge()
def worker(batch):
    # As verl's workers receive it.
    seen.append(batch)

seen = []
for step in range(2):
    keys = [f"{step}_{row}" for row in range(3)]
    batch = tq.kv_batch_put(keys=keys, partition_id="train", fields=rows([2, 3, 1 + step]), tags=[{}] * 3)
    batch.extra_info["temperature"] = 1.0
    assert set(batch.fields) == {*TENSORS, "raw_prompt", "extra_fields", "multi_modal_inputs"}
    worker(batch)
    assert "raw_prompt" in seen[-1]
    assert only_for_workers(batch) is batch
    worker(batch)
    assert set(seen[-1].keys()) == {*TENSORS, "multi_modal_inputs", "temperature"}, set(seen[-1].keys())
    for full, restricted in zip(seen[-2]["input_ids"].unbind(), seen[-1]["input_ids"].unbind(), strict=True):
        assert torch.equal(full, restricted)
    # The next step adds a column, and an emptied partition forgets what its columns were.
    values = list_of_dict_to_tensordict([{"values": torch.ones(2)}] * 3)
    more = tq.kv_batch_put(keys=keys, partition_id="train", fields=values)
    assert "values" in only_for_workers(more).fields and "raw_prompt" not in more.fields
    assert len(tq.kv_batch_get(keys=keys, partition_id="train", select_fields=["raw_prompt"])["raw_prompt"]) == 3
    tq.kv_clear(keys=keys, partition_id="train")
print("as expected", flush=True)
"""


def test_workers_receive_tensors_and_the_inputs_of_images_only():
    environment = {**os.environ, **CPU_ENVIRONMENT}
    found = subprocess.run(
        [sys.executable, "-c", DRIVER], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert found.stdout.endswith("as expected\n"), found.stderr[-3000:]


@pytest.mark.parametrize("trainer", [ReinforceppSync, ReinforceppColocateAsync, ReinforceppSeparateAsync])
@pytest.mark.parametrize(
    "name", [name for name in vars(TensorsForWorkers) if name.startswith(("_compute_", "_update_"))]
)
def test_every_step_that_workers_take_is_verls_and_is_wrapped(trainer, name):
    assert list(inspect.signature(getattr(PPOTrainer, name)).parameters) == ["self", "batch", "metrics"]
    assert trainer.__mro__.index(TensorsForWorkers) < trainer.__mro__.index(PPOTrainer)
    assert getattr(trainer, name) is getattr(TensorsForWorkers, name)


def test_no_other_step_calls_the_workers_with_a_batch():
    source = inspect.getsource(PPOTrainer)
    calls = [line.strip() for line in source.splitlines() if "_wg." in line and "(batch" in line]
    assert len(calls) == 6, calls  # log_prob of actor, reference and reference within the actor, values, two updates
