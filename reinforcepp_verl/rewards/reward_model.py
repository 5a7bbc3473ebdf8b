"""Asks the reward model that verl serves (`reward.reward_model`) for the score of an answer, in a reward function.

verl hands the address of its router and the reward model's tokenizer to a reward function that takes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import aiohttp

RAW_PROMPT_KEY = "raw_prompt"
"""Where our reward manager puts the chat of the prompt into `extra_info`; verl's name for it."""
TIMEOUT = aiohttp.ClientTimeout(total=240)
"""Longer than verl's router takes for all of its attempts."""


async def learned_score(
    prompt: Sequence[dict[str, str]], answer: str, reward_router_address: str, reward_model_tokenizer: Any
) -> float:
    """Return the logit of the reward model for an answer to a chat, with vLLM as its server.

    verl's own scoring does the same with the text of the chat, whose begin token it removes because vLLM adds one. The
    token ids sent here are those of the chat template, and nothing is added to them.

    Raises:
        aiohttp.ClientError: the server cannot be reached, or refuses the request
    """
    chat = [*prompt, {"role": "assistant", "content": answer}]
    text = reward_model_tokenizer.apply_chat_template(chat, tokenize=False)
    ids = reward_model_tokenizer(text, add_special_tokens=False)["input_ids"]
    request = {"input": ids, "use_activation": False}
    async with (
        aiohttp.ClientSession(timeout=TIMEOUT, raise_for_status=True) as session,
        session.post(f"http://{reward_router_address}/classify", json=request) as response,
    ):
        reply = await response.json()
    return float(reply["data"][-1]["probs"][-1])
