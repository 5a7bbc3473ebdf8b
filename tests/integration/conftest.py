"""What tests of the integration share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from omegaconf import OmegaConf
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from reinforcepp_verl.integration.replay_buffer import ReinforceppReplayBuffer


@pytest.fixture(scope="session")
def build_buffer() -> Callable[..., ReplayBuffer]:
    """Build our replay buffer as verl's trainer does, with options of the sampler."""

    def build(trainer_mode: str = "sync", **options: Any) -> ReplayBuffer:
        return ReinforceppReplayBuffer(
            trainer_mode=trainer_mode,
            trainer_config=OmegaConf.create({}),
            max_off_policy_threshold=8,
            max_off_policy_strategy="drop",
            refill_fn=lambda count: None,
            sampler_kwargs=OmegaConf.create({"train_batch_size": 4, **options}),
        )

    return build
