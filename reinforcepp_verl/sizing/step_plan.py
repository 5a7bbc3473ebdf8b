"""The work of one step: prompts, answers, tokens, updates and passes through the model."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import DictConfig

from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import trainer_mode, value
from reinforcepp_verl.sizing.layout import ParallelLayout, max_sequence_length, needs_reference


@dataclass(frozen=True)
class StepPlan:
    """Counts of one training step; `forwards` and `backwards` are passes per answer."""

    prompts: int
    answers_per_prompt: int
    longest_answer: int
    longest_sequence: int
    updates: int
    answers_per_update: int
    forwards: dict[str, int]
    backwards: int
    engines: int
    gpus_per_engine: int

    @property
    def answers(self) -> int:
        """Answers generated in a step."""
        return self.prompts * self.answers_per_prompt

    @property
    def generated_tokens(self) -> int:
        """Maximum number of tokens that the engines generate in a step."""
        return self.answers * self.longest_answer

    @classmethod
    def from_config(cls, config: DictConfig) -> StepPlan:
        """Compute the plan of a configuration with valid batch sizes."""
        layout = ParallelLayout.from_config(config)
        prompts, answers = value(config, keys.TRAIN_BATCH_SIZE), value(config, keys.ROLLOUT_N)
        mini, epochs = value(config, keys.ACTOR_PPO_MINI_BATCH_SIZE), value(config, keys.ACTOR_PPO_EPOCHS)
        return cls(
            prompts=prompts,
            answers_per_prompt=answers,
            longest_answer=value(config, keys.MAX_RESPONSE_LENGTH),
            longest_sequence=max_sequence_length(config),
            updates=prompts // mini * epochs,
            answers_per_update=mini * answers,
            forwards=_forwards(config, epochs),
            backwards=epochs,
            engines=layout.engines,
            gpus_per_engine=layout.engine,
        )


def _forwards(config: DictConfig, epochs: int) -> dict[str, int]:
    bypassed = value(config, keys.BYPASS_MODE)
    forwards = {
        "log-probabilities": 0 if bypassed else 1,
        "reference": 1 if needs_reference(config) else 0,
        "values": 1 if value(config, keys.CRITIC_ENABLE) else 0,
        "updates": epochs,
        "gradient checkpointing": epochs if value(config, keys.ENABLE_GRADIENT_CHECKPOINTING) else 0,
    }
    return {name: count for name, count in forwards.items() if count}


def normalized_over(config: DictConfig) -> int:
    """Return the number of answers that advantages are normalized over: one mini-batch in separate_async."""
    parts = value(config, keys.PARAMETER_SYNC_STEP)
    prompts = value(config, keys.TRAIN_BATCH_SIZE) // (parts if trainer_mode(config) == "separate_async" else 1)
    return prompts * value(config, keys.ROLLOUT_N)
