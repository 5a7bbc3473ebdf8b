"""An agent loop that trains each turn as a row of its own: what the model read is the prompt, what it said the answer.

Train with it: docs/tools.md. An agent that rewrites its context between turns, by a summary for instance, needs such
rows, because its turns are no continuation of one another.
"""

from typing import Any

from verl.experimental.agent_loop.agent_loop import AgentLoopOutput
from verl.experimental.agent_loop.tool_agent_loop import ToolAgentLoop


class TurnRows(ToolAgentLoop):
    """verl's tool agent, whose session becomes one row per turn; verl scores the last and copies the score to all."""

    async def run(self, sampling_params: dict[str, Any], **kwargs: Any) -> list[AgentLoopOutput]:
        """Run the session, then cut it where the model starts and stops speaking."""
        return rows_of(await super().run(sampling_params, **kwargs), self.rollout_config.prompt_length)


def rows_of(session: AgentLoopOutput, prompt_length: int) -> list[AgentLoopOutput]:
    """Return one row per turn of the model; its prompt is all that came before.

    Raises:
        ValueError: a prompt has more than `prompt_length` tokens
    """
    mask = [0, *session.response_mask, 0]
    changes = [i for i in range(len(mask) - 1) if mask[i] != mask[i + 1]]
    rows = []
    for start, end in zip(changes[::2], changes[1::2], strict=True):
        log_probs = session.response_logprobs
        row = session.model_copy(deep=True)
        row.prompt_ids = [*session.prompt_ids, *session.response_ids[:start]]
        if len(row.prompt_ids) > prompt_length:
            needed = f"set data.max_prompt_length to {len(row.prompt_ids)} or more"
            raise ValueError(f"the prompt of a turn has {len(row.prompt_ids)} tokens, {prompt_length} fit; {needed}")
        row.response_ids = session.response_ids[start:end]
        row.response_mask = session.response_mask[start:end]
        row.response_logprobs = log_probs[start:end] if log_probs else None
        rows.append(row)
    return rows
