"""Every answer has its own, reproducible seed, and verl still reads it where we put it."""

from __future__ import annotations

import inspect

from verl.experimental.agent_loop.agent_loop import AgentLoopManager, AgentLoopWorker
from verl.workers.rollout.vllm_rollout import vllm_async_server

from reinforcepp_verl.integration.replay_buffer import _row_order
from reinforcepp_verl.integration.rollout_seeds import SeededAgentLoopWorker, answer_seed


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


def test_rows_take_the_order_of_their_prompts_sessions_and_turns():
    place = {"later": 1, "earlier": 0}
    keys = ["later_0_0", "earlier_1_0", "earlier_0_10", "earlier_0_2"]
    assert sorted(keys, key=lambda key: _row_order(key, place)) == [
        "earlier_0_2",
        "earlier_0_10",
        "earlier_1_0",
        "later_0_0",
    ]
