"""A sampling seed for every answer, so that a run is reproducible and resuming does not change its answers.

Hook: `actor_rollout_ref.rollout.agent.agent_loop_manager_class`. By default vLLM draws all answers of an engine from
one random stream, in order of arrival, and a new engine starts that stream again. verl's `full_determinism` gives every
request the same seed, which makes the answers of a group equal.

Seeded requests use vLLM's slower sampler, and on a GPU the logits depend on the other requests in a batch unless vLLM
runs batch-invariant. So this is the default on the CPU, where it needs `enable_chunked_prefill=false`, and optional
elsewhere.
"""

from __future__ import annotations

import hashlib
from typing import Any

import ray
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ


def answer_seed(seed: int, step: int, prompt: Any, answer: int, validate: bool) -> int:
    """Return a 63-bit seed for one answer; `prompt` is the row's `extra_info.index` in the data.

    Rows of different files with the same index share seeds, which is harmless because their prompts differ.
    """
    name = f"{seed}/{'val' if validate else 'train'}/{step}/{prompt}/{answer}"
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 1


class SeededAgentLoopWorker(AgentLoopWorkerTQ.__ray_actor_class__):  # type: ignore[misc,name-defined]
    """verl's agent loop worker whose requests carry a seed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Ray pickles an inherited __init__ by value together with its class, on which verl's super() fails; this one is
        # pickled by reference.
        super().__init__(*args, **kwargs)

    async def _run_agent_loop(
        self, sampling_params: dict[str, Any], trajectory: dict[str, Any], *, session_id: int, **kwargs: Any
    ) -> Any:
        base, index = self.config.actor_rollout_ref.rollout.seed, trajectory["sample_index"]
        seed = answer_seed(base, trajectory["step"], index, session_id, trajectory["validate"])
        seeded = {**sampling_params, "seed": seed}
        return await super()._run_agent_loop(seeded, trajectory, session_id=session_id, **kwargs)


class SeededAgentLoopManager(AgentLoopManagerTQ):
    """verl's manager with these workers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(SeededAgentLoopWorker)
