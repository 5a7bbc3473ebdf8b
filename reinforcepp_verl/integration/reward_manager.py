"""A reward manager for functions that may fail (hook: `register`, set by `reward.reward_manager.name`).

With verl's own, an answer whose scoring raises removes its whole prompt group from the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from tensordict import TensorDict
from transformers import PreTrainedTokenizerBase
from verl import DataProto
from verl.experimental.reward_loop.reward_manager import register
from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager

from reinforcepp_verl.config import keys
from reinforcepp_verl.config.nodes import read_reward_errors
from reinforcepp_verl.config.reading import TRAINER_PREFIX, value
from reinforcepp_verl.config.reward_error_options import OUR_REWARD_MANAGER
from reinforcepp_verl.rewards.failures import TRUNCATED_KEY, SafeRewardFunction
from reinforcepp_verl.rewards.reward_model import RAW_PROMPT_KEY


@register(OUR_REWARD_MANAGER)
class ReinforceppRewardManager(NaiveRewardManager):
    """Calls the reward function like verl, passes it the length of the answer, and handles its exceptions."""

    def __init__(
        self, config: DictConfig, tokenizer: PreTrainedTokenizerBase, compute_score: Callable[..., Any], **kwargs: Any
    ) -> None:
        tolerant = SafeRewardFunction(
            compute_score,
            read_reward_errors(config).score,
            _group_filter_keys(config),
            token_scores_refused=_why_no_token_scores(config),
            tokenizer=tokenizer,
        )
        super().__init__(config, tokenizer, tolerant.wrapped(), **kwargs)
        self.end_token = tokenizer.eos_token_id
        self.max_tokens = config.actor_rollout_ref.rollout.response_length

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        """Score the last row of a session, with its prompt and facts about its tokens in `extra_info`."""
        last = data[-1:]
        length = int(last.non_tensor_batch["response_len"][0])
        # Without the padding of the session's rows, which verl would decode as part of the answer.
        answer = last.batch["responses"][:, :length]
        last.batch = TensorDict({"responses": answer, "attention_mask": torch.ones_like(answer)}, batch_size=1)
        [extra_info] = last.non_tensor_batch.get("extra_info", [{}])
        ids = answer[0].tolist()
        truncated = is_truncated(ids, self.max_tokens, self.end_token)
        facts = {"response_ids": ids, "response_tokens": length, "truncated": truncated}
        extra_info = {**extra_info, **facts}
        if RAW_PROMPT_KEY in last.non_tensor_batch:
            extra_info[RAW_PROMPT_KEY] = list(last.non_tensor_batch[RAW_PROMPT_KEY][0])
        last.non_tensor_batch["extra_info"] = np.array([extra_info], dtype=object)
        result = await super().run_single(last)
        result["reward_extra_info"][TRUNCATED_KEY] = float(truncated)
        # Without it, verl's validation dumps would not name the source of a question.
        result["reward_extra_info"]["data_source"] = str(last.non_tensor_batch["data_source"][0])
        return result


def is_truncated(ids: Sequence[int], max_tokens: int, end_token: int | None) -> bool:
    """Return True if an answer has all the tokens that are allowed, and the last one is not the stop token."""
    return len(ids) >= max_tokens and ids[-1] != end_token


def _group_filter_keys(config: DictConfig) -> list[str]:
    """Return the key by which verl filters groups, which every row must have; `reward` is the score itself."""
    if not OmegaConf.select(config, keys.FILTER_GROUPS_ENABLE):
        return []
    metric = config.algorithm.filter_groups.metric
    return [] if metric == "reward" else [metric]


def _why_no_token_scores(config: DictConfig) -> str | None:
    mode = str(value(config, keys.TRAINER_MODE))
    if mode.startswith(TRAINER_PREFIX):
        return None
    return (
        f"{keys.TRAINER_MODE} is {mode}, and verl's own trainers cannot place them; use `reinforcepp train` or "
        f"{keys.TRAINER_MODE}={TRAINER_PREFIX}{mode}"
    )
