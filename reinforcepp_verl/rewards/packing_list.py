"""Scores a packing list with the reward model, and returns its true quality beside it, which the reward never uses.

For verl's `reward.custom_reward_function`; needs `reward.reward_model.enable`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from reinforcepp_verl.rewards.reward_model import RAW_PROMPT_KEY, learned_score

EXTRA_WORD_COST = 0.1


def quality(wanted: Collection[str], words: Sequence[str]) -> float:
    """Return the share of wanted things that a list names, less 0.1 for each word that is repeated or not wanted.

    1 is the best quality; a list of many other words is below 0.
    """
    named = len(set(wanted) & set(words))
    return named / len(wanted) - EXTRA_WORD_COST * (len(words) - named)


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict[str, Any],
    reward_router_address: str,
    reward_model_tokenizer: Any,
) -> dict[str, float]:
    """Return the learned score, the true quality and the number of words; `ground_truth` names the wanted things."""
    words = solution_str.split()
    prompt = extra_info[RAW_PROMPT_KEY]
    score = await learned_score(prompt, solution_str, reward_router_address, reward_model_tokenizer)
    return {"score": score, "quality": quality(ground_truth.split(), words), "words": len(words)}
