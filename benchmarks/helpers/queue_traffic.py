"""Writes one column of floats to a TransferQueue of verl's default kind and reads it back; prints both in MB/s.

python benchmarks/helpers/queue_traffic.py authenticated 1024 8000
"""

from __future__ import annotations

import json
import time
from typing import Annotated

import ray
import torch
import transfer_queue as tq
import typer
from omegaconf import OmegaConf
from tensordict import TensorDict

from reinforcepp_verl.integration import verl_patches

STORAGE_UNITS = 2


def main(
    kind: Annotated[str, typer.Argument(help="authenticated, as in a run of ours; or plain.")],
    answers: Annotated[int, typer.Argument(help="Rows of the batch.")],
    tokens: Annotated[int, typer.Argument(help="Tokens of each answer.")],
) -> None:
    """Measure a new TransferQueue in a Ray of its own."""
    hook = {"worker_process_setup_hook": verl_patches.SETUP_HOOK} if kind == "authenticated" else {}
    if hook:
        verl_patches.install()
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, runtime_env=hook)
    try:
        tq.init(OmegaConf.create({"backend": {"SimpleStorage": {"num_data_storage_units": STORAGE_UNITS}}}))
        keys = [f"row_{row}" for row in range(answers)]
        column = torch.nested.as_nested_tensor(list(torch.rand(answers, tokens)), layout=torch.jagged)
        megabytes = column.values().nbytes / 1e6
        started = time.perf_counter()
        tq.kv_batch_put(keys=keys, partition_id="train", fields=TensorDict({"values": column}, batch_size=answers))
        written = time.perf_counter()
        tq.kv_batch_get(keys=keys, partition_id="train", select_fields=["values"])
        read = time.perf_counter()
        print(json.dumps({"write": megabytes / (written - started), "read": megabytes / (read - written)}))
    finally:
        ray.shutdown()


if __name__ == "__main__":
    typer.run(main)
