"""Every answer has its own, reproducible seed, and verl still reads it where we put it."""

from __future__ import annotations

import asyncio
import inspect
import itertools

from verl.experimental.agent_loop.agent_loop import AgentLoopManager, AgentLoopWorker
from verl.experimental.agent_loop.tool_agent_loop import ToolAgentLoop
from verl.workers.rollout.llm_server import LLMServerClient
from verl.workers.rollout.vllm_rollout import vllm_async_server

from reinforcepp_verl.integration import rollout_seeds
from reinforcepp_verl.integration.replay_buffer import _row_order
from reinforcepp_verl.integration.rollout_seeds import SeededAgentLoopWorker, answer_seed, turn_seed


def test_seeds_differ_by_run_step_prompt_answer_and_kind_and_stay_the_same():
    first = answer_seed(1, 2, 3, 4, validate=False)
    others = [(2, 2, 3, 4, False), (1, 3, 3, 4, False), (1, 2, 4, 4, False), (1, 2, 3, 5, False), (1, 2, 3, 4, True)]
    assert len({first, *(answer_seed(*other) for other in others)}) == 6
    assert first == answer_seed(1, 2, 3, 4, validate=False) and 0 <= first < 2**63


def test_verl_passes_the_parts_of_a_seed():
    assert list(inspect.signature(AgentLoopWorker._run_agent_loop).parameters)[:3] == [
        "self",
        "sampling_params",
        "trajectory",
    ]
    assert "session_id=i" in inspect.getsource(SeededAgentLoopWorker._run_prompt)
    assert "self.agent_loop_workers_class.options" in inspect.getsource(AgentLoopManager._init_agent_loop_workers)
    assert 'sampling_params.setdefault("seed"' in inspect.getsource(vllm_async_server)


def test_each_turn_of_each_session_has_its_own_seed():
    seen: dict[str, list[int]] = {}

    async def generate(request_id: str, *, sampling_params: dict, prompt_ids: list[int]) -> None:
        assert sampling_params["temperature"] == 1.0
        seen.setdefault(request_id, []).append(sampling_params["seed"])

    async def session(name: str, seed: int) -> None:
        rollout_seeds._turns.set(itertools.count())
        for _ in range(3):
            await seeded(name, sampling_params={"seed": seed, "temperature": 1.0}, prompt_ids=[1])
            await asyncio.sleep(0)

    async def both() -> None:
        await asyncio.gather(session("a", 7), session("b", 8))

    seeded = rollout_seeds.with_turn_seeds(generate)
    asyncio.run(both())
    assert seen == {name: [turn_seed(seed, turn) for turn in range(3)] for name, seed in (("a", 7), ("b", 8))}
    assert seen["a"][0] == 7 and len({*seen["a"], *seen["b"]}) == 6


def test_agent_loops_generate_each_turn_by_the_method_that_we_wrap():
    assert "server_manager=self.llm_client" in inspect.getsource(AgentLoopWorker._run_agent_loop)
    assert "sampling_params=sampling_params" in inspect.getsource(ToolAgentLoop._handle_generating_state)
    assert (
        inspect.signature(LLMServerClient.generate).parameters["sampling_params"].kind is inspect.Parameter.KEYWORD_ONLY
    )


def test_rows_take_the_order_of_their_prompts_sessions_and_turns():
    place = {"later": 1, "earlier": 0}
    keys = ["later_0_0", "earlier_1_0", "earlier_0_10", "earlier_0_2"]
    assert sorted(keys, key=lambda key: _row_order(key, place)) == [
        "earlier_0_2",
        "earlier_0_10",
        "earlier_1_0",
        "later_0_0",
    ]
