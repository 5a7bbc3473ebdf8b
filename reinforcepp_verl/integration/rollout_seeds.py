"""A sampling seed for every answer and turn, so that a run is reproducible and resuming does not change its answers.

Hook: `actor_rollout_ref.rollout.agent.agent_loop_manager_class`. By default vLLM draws all answers of an engine from
one random stream, in order of arrival, and a new engine starts that stream again. verl's `full_determinism` gives every
request the same seed, which makes the answers of a group equal. The turns of a session need different seeds too: with
one for all, their tokens would be drawn with the same random numbers, and the session not from the policy.

Seeded requests use vLLM's slower sampler, and on a GPU the logits depend on the other requests in a batch unless vLLM
runs batch-invariant. So this is the default on the CPU, where it needs `enable_chunked_prefill=false`, and optional
elsewhere.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import ray
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ


def answer_seed(seed: int, step: int, prompt: Any, answer: int, validate: bool) -> int:
    """Return a 63-bit seed for one answer; `prompt` is the row's `extra_info.index` in the data.

    Rows of different files with the same index share seeds, which is harmless because their prompts differ.
    """
    return _digest(f"{seed}/{'val' if validate else 'train'}/{step}/{prompt}/{answer}")


def turn_seed(seed: int, turn: int) -> int:
    """Return the seed of a turn; the first turn, 0, has the seed of the answer."""
    return seed if turn == 0 else _digest(f"{seed}/{turn}")


def _digest(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 1


_turns: ContextVar[Iterator[int]] = ContextVar("reinforcepp_turns")
"""Counts the requests of the session that runs; each runs in a task of its own."""


def with_turn_seeds(generate: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Wrap the method by which agent loops generate a turn; one that leaves the answer's seed out gets none."""

    @functools.wraps(generate)
    async def wrapper(*args: Any, sampling_params: dict[str, Any], **kwargs: Any) -> Any:
        if "seed" in sampling_params:
            seed = turn_seed(sampling_params["seed"], next(_turns.get()))
            sampling_params = {**sampling_params, "seed": seed}
        return await generate(*args, sampling_params=sampling_params, **kwargs)

    return wrapper


class SeededAgentLoopWorker(AgentLoopWorkerTQ.__ray_actor_class__):  # type: ignore[misc,name-defined]
    """verl's agent loop worker whose requests carry a seed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Ray pickles an inherited __init__ by value together with its class, on which verl's super() fails; this one is
        # pickled by reference.
        super().__init__(*args, **kwargs)
        self.llm_client.generate = with_turn_seeds(self.llm_client.generate)

    async def _run_agent_loop(
        self, sampling_params: dict[str, Any], trajectory: dict[str, Any], *, session_id: int, **kwargs: Any
    ) -> Any:
        base, index = self.config.actor_rollout_ref.rollout.seed, trajectory["sample_index"]
        seed = answer_seed(base, trajectory["step"], index, session_id, trajectory["validate"])
        seeded = {**sampling_params, "seed": seed}
        _turns.set(itertools.count())
        return await super()._run_agent_loop(seeded, trajectory, session_id=session_id, **kwargs)


class SeededAgentLoopManager(AgentLoopManagerTQ):
    """verl's manager with these workers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(SeededAgentLoopWorker)
