"""Scores answers with a configuration's reward manager, without a run (`reinforcepp reward try`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tensordict import TensorDict
from verl import DataProto
from verl.trainer.ppo.reward import load_reward_manager
from verl.utils.tokenizer import hf_tokenizer

from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import value
from reinforcepp_verl.integration import reward_manager  # noqa: F401  (registers the manager)

if TYPE_CHECKING:
    from omegaconf import DictConfig


class RewardTrial:
    """The reward manager and the tokenizer of a run that is not started.

    Raises:
        ValueError: the reward needs a model that only a run serves, or the tokenizer cannot be loaded
    """

    def __init__(self, config: DictConfig) -> None:
        if value(config, keys.REWARD_MODEL_ENABLE):
            raise ValueError(
                f"{keys.REWARD_MODEL_ENABLE} is true: only a run serves the reward model; set it to false if the "
                "function scores without it"
            )
        name = value(config, keys.MODEL_PATH)
        try:
            self._tokenizer = hf_tokenizer(name, trust_remote_code=bool(value(config, keys.TRUST_REMOTE_CODE)))
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{keys.MODEL_PATH} is {name}: its tokenizer cannot be loaded ({reason})") from error
        self._manager = load_reward_manager(
            config, self._tokenizer, reward_router_address=None, reward_model_tokenizer=None
        )

    def score(self, answer: str, ground_truth: Any, data_source: str, extra_info: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the manager returns for an answer that ends with the end token: `score`, and what is beside it.

        The answer is encoded and decoded, as in a run: special tokens in it are removed before it is scored.
        """
        ids = self._tokenizer.encode(answer, add_special_tokens=False)
        responses = torch.tensor([[*ids, self._tokenizer.eos_token_id]])
        row = {
            "data_source": data_source,
            "reward_model": {"ground_truth": ground_truth},
            "extra_info": dict(extra_info),
            "response_len": responses.shape[1],
            "__num_turns__": 2,
            "tool_extra_fields": {},
        }
        data = DataProto(
            batch=TensorDict({"responses": responses, "attention_mask": torch.ones_like(responses)}, batch_size=1),
            non_tensor_batch={name: _column(content) for name, content in row.items()},
        )
        result = self._manager.loop.run_until_complete(self._manager.run_single(data))
        return {"score": float(result["reward_score"]), **result["reward_extra_info"]}


def _column(content: Any) -> np.ndarray:
    column = np.empty(1, dtype=object)
    column[0] = content
    return column
