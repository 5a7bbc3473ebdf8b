"""One more answer to each training prompt, sampled greedily, as the baseline of ReMax (arXiv 2310.10505).

Hook: `actor_rollout_ref.rollout.agent.agent_loop_manager_class`. The answer is the last session of its prompt,
scored like the others. Its rows have the tag `greedy_baseline`, by which the replay buffer takes them out of
the batch.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import ray
from verl.trainer.ppo.v1 import agent_loop_tq
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, apply_greedy_sampling_params

from reinforcepp_verl.integration.rollout_seeds import SeededAgentLoopWorker

GREEDY_TAG = "greedy_baseline"
GREEDY_SESSION = "greedy_session"


_is_greedy: ContextVar[bool] = ContextVar("reinforcepp_greedy_session", default=False)
"""Of the session that runs; each runs in a task of its own."""


class GreedyAgentLoopWorker(SeededAgentLoopWorker):
    """verl's agent loop worker, with seeds, and with a greedy session for each training prompt."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)

    async def _run_prompt(self, prompt: dict, sampling_params: dict, trajectory: dict, trace: bool = False) -> None:
        if not trajectory["validate"]:
            sampled = prompt.get("__rollout_n__", self.config.actor_rollout_ref.rollout.n)
            prompt["__rollout_n__"] = sampled + 1
            trajectory = {**trajectory, GREEDY_SESSION: sampled}
        await super()._run_prompt(prompt, sampling_params, trajectory, trace)

    async def _run_agent_loop(
        self, sampling_params: dict[str, Any], trajectory: dict[str, Any], *, session_id: int, **kwargs: Any
    ) -> Any:
        if session_id == trajectory.get(GREEDY_SESSION):
            _is_greedy.set(True)
            sampling_params = dict(sampling_params)
            apply_greedy_sampling_params(sampling_params)
        return await super()._run_agent_loop(sampling_params, trajectory, session_id=session_id, **kwargs)

    async def _agent_loop_postprocess(self, output: Any, validate: bool, **kwargs: Any) -> None:
        if _is_greedy.get():
            # Before the rows are written: a row without the tag would be trained on.
            for row in range(len(output) if isinstance(output, list) else 1):
                key = f"{kwargs['uid']}_{kwargs['session_id']}_{row}"
                await agent_loop_tq.tq.async_kv_put(key=key, partition_id="train", tag={GREEDY_TAG: True})
        await super()._agent_loop_postprocess(output, validate, **kwargs)


class GreedyAgentLoopManager(AgentLoopManagerTQ):
    """verl's manager with these workers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(GreedyAgentLoopWorker)
