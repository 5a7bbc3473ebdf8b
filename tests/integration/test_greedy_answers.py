"""ReMax's greedy answers are sampled once per prompt, and are in no batch, filter or leftover of the queue."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
import ray
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from tensordict.tensorclass import NonTensorStack
from verl.trainer.ppo.v1 import agent_loop_tq, replay_buffer

from reinforcepp_verl.integration import greedy_answers, greedy_rollouts
from reinforcepp_verl.integration.greedy_rollouts import GREEDY_TAG, GreedyAgentLoopManager, GreedyAgentLoopWorker

SCORES = {"a_0_0": 1.0, "a_1_0": 1.0, "a_2_0": 0.0, "b_0_0": 0.0, "b_1_0": 1.0, "b_2_0": 0.25, "b_2_1": 0.75}
GREEDY = {"a_2_0", "b_2_0", "b_2_1"}


class Queue:
    """A TransferQueue of scored answers to two prompts."""

    def __init__(self):
        prompt = {"is_prompt": True, "status": "finished", "global_steps": 1}
        self.rows = {"a": dict(prompt), "b": dict(prompt)}
        self.rows |= {key: {"status": "success"} | ({GREEDY_TAG: True} if key in GREEDY else {}) for key in SCORES}

    def kv_list(self):
        return {"train": {key: dict(tag) for key, tag in self.rows.items()}}

    def kv_batch_get(self, keys, partition_id, select_fields):
        assert all(self.rows[key]["status"] == "success" for key in keys)
        scores = torch.nested.as_nested_tensor([torch.tensor([0.0, SCORES[key]]) for key in keys], layout=torch.jagged)
        fields = {"rm_scores": scores, "extra_fields": NonTensorStack(*[{} for _ in keys])}
        return TensorDict({name: fields[name] for name in select_fields}, batch_size=len(keys))

    def kv_clear(self, partition_id, keys):
        for key in keys:
            del self.rows[key]


@pytest.fixture
def queue(monkeypatch):
    made = Queue()
    for module in (replay_buffer, greedy_answers):
        monkeypatch.setattr(module, "tq", made)
    return made


@pytest.mark.parametrize("mode", ["sync", "colocate_async"])
def test_a_batch_has_the_sampled_answers_and_the_buffer_the_greedy_scores(queue, mode, build_buffer):
    buffer = build_buffer(mode)
    batch, _ = buffer.sample(global_steps=1, partition_id="train", batch_size=2)
    assert set(batch.keys) == SCORES.keys() - GREEDY
    assert buffer.greedy_scores == {"a": 0.0, "b": 0.5}
    assert set(queue.rows) == set(batch.keys), "the greedy rows and the prompts are cleared, verl clears the batch"


def test_a_trainer_that_keeps_samples_clears_the_greedy_rows_itself(queue, build_buffer):
    buffer = build_buffer("sync")
    buffer.keeps_greedy_rows = True
    batch, _ = buffer.sample(global_steps=1, partition_id="train", batch_size=2)
    assert set(batch.keys) == SCORES.keys() - GREEDY and set(queue.rows) == set(SCORES)
    assert buffer.scored_greedy_rows == {"a": ["a_2_0"], "b": ["b_2_0", "b_2_1"]}
    buffer.clear_greedy_rows()
    assert set(queue.rows) == set(batch.keys) and not buffer.scored_greedy_rows
    buffer.clear_greedy_rows()


def test_scores_of_an_earlier_batch_and_of_a_failed_session_do_not_count(queue, build_buffer):
    buffer = build_buffer("sync")
    buffer.greedy_scores = {"z": 1.0}
    del queue.rows["a_2_0"]["status"]  # the tag was written, the answer was not
    for key in ("b_2_0", "b_2_1"):
        del queue.rows[key]
    batch, _ = buffer.sample(global_steps=1, partition_id="train", batch_size=2)
    assert buffer.greedy_scores == {} and set(queue.rows) == set(batch.keys)


@pytest.mark.parametrize("refill", [False, True])
def test_a_group_whose_greedy_answer_failed_is_replaced_if_failed_groups_are(queue, build_buffer, refill):
    buffer = build_buffer("sync", sync_refill_failed_groups=refill, max_failed_fraction=1.0)
    queue.rows["a"]["status"] = queue.rows["b"]["status"] = "failure"
    del queue.rows["a_2_0"]["status"]
    del queue.rows["b_0_0"]  # a sampled answer to b failed; its greedy one has a score
    buffer._sync_metadata_from_transfer_queue()
    reasons = buffer._terminal_eviction_reasons(1, "train")
    assert reasons[2] == ({"a"} if refill else set())
    assert buffer._terminal_eviction_reasons(1, "val")[2] == set()


def test_a_group_filter_compares_sampled_answers_only(queue, build_buffer):
    # Both sampled answers to prompt a score 1; with the greedy one, which scores 0, the group would be kept.
    buffer = build_buffer("colocate_async", filter_groups=True, filter_groups_metric="reward")
    buffer._sync_metadata_from_transfer_queue()
    filtered, _ = buffer._dapo_filtered_keys("train")
    assert filtered == {"a"}
    buffer._clear_groups("train", filtered)
    assert set(queue.rows) == {"b", *(key for key in SCORES if key.startswith("b"))}


class Worker(GreedyAgentLoopWorker):
    """Without Ray, engine and reward function; records the sampling parameters of each session."""

    def __init__(self):
        self.config = OmegaConf.create({"actor_rollout_ref": {"rollout": {"n": 2, "seed": 1, "val_kwargs": {"n": 1}}}})
        self.sessions = {}


def test_one_more_session_is_sampled_greedily_and_its_rows_are_marked(monkeypatch):
    tags, parent = {}, greedy_rollouts.SeededAgentLoopWorker.__mro__[1]

    async def put(key, partition_id, tag):
        tags.setdefault(key, {}).update(tag)

    async def run(self, sampling_params, trajectory, *, session_id, validate=False, **kwargs):
        self.sessions[session_id] = sampling_params
        rows = ["turn 1", "turn 2"] if session_id == expected_greedy else "answer"
        await self._agent_loop_postprocess(rows, trajectory["validate"], uid=kwargs["uid"], session_id=session_id)

    async def postprocess(self, output, validate, **kwargs):
        greedy = kwargs["session_id"] == expected_greedy
        assert (f"{kwargs['uid']}_{kwargs['session_id']}_0" in tags) == greedy, "tags come before the rows"

    fake = SimpleNamespace(async_kv_put=put)
    monkeypatch.setattr(agent_loop_tq, "tq", fake)
    monkeypatch.setattr(parent, "_run_agent_loop", run)
    monkeypatch.setattr(parent, "_agent_loop_postprocess", postprocess)
    sampling = {"temperature": 1.0, "top_p": 0.9, "top_k": 5}
    for validate, answers, temperatures in (
        (False, {}, [1.0, 1.0, 0]),
        (False, {"__rollout_n__": 1}, [1.0, 0]),
        (True, {}, [1.0]),
    ):
        expected_greedy = None if validate else len(temperatures) - 1
        worker, trajectory = Worker(), {"step": 1, "sample_index": 0, "validate": validate}
        tags.clear()
        asyncio.run(worker._run_prompt({"uid": "a", **answers}, dict(sampling), trajectory))
        assert [worker.sessions[number]["temperature"] for number in sorted(worker.sessions)] == temperatures
        marked = {} if validate else {f"a_{expected_greedy}_{row}": {GREEDY_TAG: True} for row in (0, 1)}
        assert tags == {"a": {"status": "finished"}} | marked
    assert (worker.sessions[0]["top_p"], worker.sessions[0]["top_k"]) == (0.9, 5)


def test_the_manager_starts_these_workers(monkeypatch):
    monkeypatch.setattr(agent_loop_tq.AgentLoopManager, "__init__", lambda self: None)
    workers = GreedyAgentLoopManager().agent_loop_workers_class
    assert isinstance(workers, ray.actor.ActorClass) and "GreedyAgentLoopWorker" in repr(workers)
