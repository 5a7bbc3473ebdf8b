"""Puts of an agent loop worker that are written together: what, when they return, and what the queue keeps."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from verl.trainer.ppo.v1 import agent_loop_tq
from verl.utils.tensordict_utils import list_of_dict_to_tensordict

from reinforcepp_verl.integration.cpu.environment import CPU_ENVIRONMENT
from reinforcepp_verl.integration.cpu.gathered_puts import GatheringQueue, gather


class RecordingQueue:
    """Takes a moment for each write and keeps what was written."""

    def __init__(self):
        self.written, self.under_way, self.attempts = [], 0, 0

    def init(self):
        pass

    async def async_kv_batch_put(self, *, keys, partition_id, fields, tags):
        assert self.under_way == 0
        self.under_way, self.attempts = self.under_way + 1, self.attempts + 1
        await asyncio.sleep(0.005)
        self.under_way -= 1
        if "broken" in keys:
            raise RuntimeError("the queue is gone")
        self.written.append((keys, partition_id, fields, tags))


@pytest.fixture
def queue():
    return RecordingQueue()


@pytest.fixture
def gathering(queue):
    return GatheringQueue(queue, list_of_dict_to_tensordict)


def row(length, **more):
    return {"responses": torch.arange(length), "reward_score": 0.5, "messages": [{"role": "user"}], **more}


def put(gathering, key, content):
    return gathering.async_kv_batch_put(keys=[key], fields=[content], tags=[{"of": key}], partition_id="train")


def tag(gathering, key, partition_id="train"):
    return gathering.async_kv_put(key=key, partition_id=partition_id, tag={"of": key})


def test_rows_that_come_together_are_one_write(queue, gathering):
    async def run():
        await asyncio.gather(*(put(gathering, str(n), row(n + 1)) for n in range(5)))

    asyncio.run(run())
    ((keys, partition_id, fields, tags),) = queue.written
    assert keys == list("01234") and partition_id == "train" and tags == [{"of": key} for key in "01234"]
    for n, kept in enumerate(fields["responses"].unbind()):
        torch.testing.assert_close(kept, torch.arange(n + 1))
    assert fields["messages"] == [[{"role": "user"}]] * 5


def test_puts_during_a_write_are_the_next_one_and_return_after_it(queue, gathering):
    ended = []

    async def one(key, delay):
        await asyncio.sleep(delay)
        await tag(gathering, key)
        ended.append((key, [key for keys, *_ in queue.written for key in keys]))

    async def run():
        await asyncio.gather(one("first", 0), one("second", 0.002), one("third", 0.003))

    asyncio.run(run())
    assert [keys for keys, *_ in queue.written] == [["first"], ["second", "third"]]
    assert all(key in written for key, written in ended)


def test_what_one_coroutine_writes_in_turn_stays_in_turn(queue, gathering):
    async def prompt(name):
        await tag(gathering, name)
        await put(gathering, f"{name}_0", row(3))
        await tag(gathering, name)

    async def run():
        await asyncio.gather(*(prompt(name) for name in "abcd"))

    asyncio.run(run())
    written = [key for keys, *_ in queue.written for key in keys]
    assert len(queue.written) == 3 and sorted(written) == sorted([*"abcd", *"abcd", "a_0", "b_0", "c_0", "d_0"])
    for name in "abcd":
        assert [key for key in written if key.startswith(name)] == [name, f"{name}_0", name]


@pytest.mark.parametrize(
    "other",
    [
        row(2, turn_scores=[1.0]),
        row(2, responses=torch.ones(2)),
        row(2, responses=[1, 2]),
        row(2, responses=torch.ones(3, 2, dtype=torch.int64)),
    ],
    ids=["columns", "dtype", "no tensor", "dimensions"],
)
def test_rows_that_are_no_batch_are_written_apart(queue, gathering, other):
    async def run():
        await asyncio.gather(put(gathering, "a", row(2)), put(gathering, "b", other), put(gathering, "c", row(2)))

    asyncio.run(run())
    assert [keys for keys, *_ in queue.written] == [["a", "c"], ["b"]]


def test_partitions_and_tags_alone_are_written_apart(queue, gathering):
    async def run():
        await asyncio.gather(tag(gathering, "a"), tag(gathering, "b", "val"), put(gathering, "c", row(1)))

    asyncio.run(run())
    assert [(keys, partition_id, fields is None) for keys, partition_id, fields, _ in queue.written] == [
        (["a"], "train", True),
        (["b"], "val", True),
        (["c"], "train", False),
    ]


def test_an_error_reaches_the_put_at_fault_and_no_other(queue, gathering):
    async def run():
        together = await asyncio.gather(
            *(tag(gathering, key) for key in ("a", "broken", "b")), put(gathering, "c", row(1)), return_exceptions=True
        )
        await tag(gathering, "later")
        return together

    a, broken, b, c = asyncio.run(run())
    assert isinstance(broken, RuntimeError) and a is b is c is None
    assert sorted(keys for keys, *_ in queue.written) == [["a"], ["b"], ["c"], ["later"]]


def test_the_error_of_a_put_alone_is_raised_at_once(queue, gathering):
    with pytest.raises(RuntimeError, match="the queue is gone"):
        asyncio.run(tag(gathering, "broken"))
    assert queue.attempts == 1


def test_an_answer_that_is_given_up_takes_no_other_with_it(queue, gathering):
    async def run():
        given_up, other = asyncio.create_task(tag(gathering, "a")), asyncio.create_task(tag(gathering, "b"))
        await asyncio.sleep(0)
        given_up.cancel()
        await other

    asyncio.run(run())
    assert [keys for keys, *_ in queue.written] == [["a", "b"]]


def answers_written(module, queue, monkeypatch):
    """Return how many writes eight answers to one prompt take, through verl's own worker."""
    worker_class = agent_loop_tq.AgentLoopWorkerTQ.__ray_metadata__.modified_class
    worker = worker_class.__new__(worker_class)
    worker.processor, worker.distillation_enabled, worker.reward_loop_worker_handles = None, False, None
    output = agent_loop_tq.AgentLoopOutput
    metrics = sys.modules[output.__module__].AgentLoopMetrics()

    async def run():
        outputs = [
            output(prompt_ids=[1], response_ids=[2] * n, response_mask=[1] * n, metrics=metrics, extra_fields={})
            for n in range(1, 9)
        ]
        session = {"uid": "a", "global_steps": 1}
        await asyncio.gather(
            *(
                worker._agent_loop_postprocess(output, validate=False, session_id=n, **session)
                for n, output in enumerate(outputs)
            )
        )

    monkeypatch.setattr(agent_loop_tq, "tq", module.tq)
    monkeypatch.setattr(agent_loop_tq, "list_of_dict_to_tensordict", module.list_of_dict_to_tensordict)
    asyncio.run(run())
    return len(queue.written)


class UnguardedQueue(RecordingQueue):
    """Several writes may be under way."""

    async def async_kv_batch_put(self, **content):
        self.written.append(content)


def test_without_the_patch_verl_writes_each_answer_alone(monkeypatch):
    queue = UnguardedQueue()
    stock = SimpleNamespace(tq=queue, list_of_dict_to_tensordict=list_of_dict_to_tensordict)
    assert answers_written(stock, queue, monkeypatch) == 8


def test_with_the_patch_verl_writes_them_together(queue, monkeypatch):
    patched = SimpleNamespace(tq=queue, list_of_dict_to_tensordict=list_of_dict_to_tensordict)
    gather(patched)
    gather(patched)
    assert answers_written(patched, queue, monkeypatch) == 1
    ((keys, _, fields, tags),) = queue.written
    assert keys == [f"a_{n}_0" for n in range(8)] and [tag["response_len"] for tag in tags] == list(range(1, 9))
    assert [len(ids) for ids in fields["responses"].unbind()] == list(range(1, 9))


def test_the_patch_can_be_switched_off(queue, monkeypatch):
    monkeypatch.setenv("REINFORCEPP_GATHER_PUTS", "0")
    module = SimpleNamespace(tq=queue, list_of_dict_to_tensordict=list_of_dict_to_tensordict)
    gather(module)
    assert module.tq is queue and module.list_of_dict_to_tensordict is list_of_dict_to_tensordict


# The same rows through the TransferQueue itself, one by one and gathered, read back.
DRIVER = """
import asyncio
import ray, torch, transfer_queue as tq
from omegaconf import OmegaConf
from verl.utils.tensordict_utils import list_of_dict_to_tensordict
from reinforcepp_verl.common.slow_ray_start import retry_slow_ray_start
from reinforcepp_verl.integration.cpu.gathered_puts import GatheringQueue

retry_slow_ray_start(ray.init, address="local", num_cpus=4, include_dashboard=False)
tq.init(OmegaConf.create({"backend": {"SimpleStorage": {"num_data_storage_units": 2}}}))
gathering = GatheringQueue(tq, list_of_dict_to_tensordict)
lengths = {"one": [4, 4, 4, 4], "two": [1, 3, 2, 3]}

def content(n, length):
    return {"responses": torch.arange(length) + n, "score": torch.tensor(float(n)), "messages": [{"role": str(n)}]}

async def run():
    for name, all_lengths in lengths.items():
        for n, length in enumerate(all_lengths):
            keys, rows, tags = [f"{name}{n}"], [content(n, length)], [{"n": n}]
            await tq.async_kv_batch_put(
                keys=keys, partition_id="alone", fields=list_of_dict_to_tensordict(rows), tags=tags
            )
        await asyncio.gather(*(
            gathering.async_kv_batch_put(
                keys=[f"{name}{n}"], partition_id="gathered", fields=[content(n, length)], tags=[{"n": n}]
            )
            for n, length in enumerate(all_lengths)
        ))

asyncio.run(run())
for keys in (["one0", "one1", "one2", "one3"], ["two3", "two0"], ["one2", "two1", "two2"]):
    alone, gathered = (tq.kv_batch_get(keys=keys, partition_id=name) for name in ("alone", "gathered"))
    assert alone.keys() == gathered.keys()
    for key in alone.keys():
        assert type(alone.get(key)) is type(gathered.get(key)), key
        for a, b in zip(alone[key], gathered[key], strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, key
assert tq.kv_list("alone")["alone"] == tq.kv_list("gathered")["gathered"]
print("equal", flush=True)
"""


def test_the_transfer_queue_keeps_the_same_rows_and_tags():
    environment = {**os.environ, **CPU_ENVIRONMENT}
    found = subprocess.run(
        [sys.executable, "-c", DRIVER], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert found.stdout.endswith("equal\n"), found.stderr[-3000:]
