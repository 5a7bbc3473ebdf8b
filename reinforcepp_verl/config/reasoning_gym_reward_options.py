"""The options of the reasoning-gym reward, the node `reward.custom_reward_function.reward_kwargs`."""

from __future__ import annotations

from dataclasses import dataclass

from reinforcepp_verl.config.reward_kwargs import RewardKwargs


@dataclass
class ReasoningGymRewardOptions(RewardKwargs):
    """`reward.custom_reward_function.reward_kwargs` of `+reward_function=reasoning_gym`: how answers are found and
    scored."""

    whole_text: bool = False
    """Score the whole text if it has no `<answer>` in it: for models that answer with nothing else."""

    format_reward: float = 0.0
    """Added to the score of right and wrong answers that are between `<answer>` and `</answer>`."""

    skip_thinking: bool = True
    """Search only what follows the last `</think>`; nothing if a `<think>` does not end."""

    searched_chars: int = 16_000
    """Number of characters at the end of a text that are searched for its answer."""

    time_limit_s: float = 5.0
    """Seconds of CPU time for one answer, after which its process is killed and the answer scored as wrong."""

    memory_limit_mb: int = 1024
    """Address space of one worker process."""

    workers: int = 2
    """Worker processes per scoring process; verl starts `reward.num_workers` scoring processes, 8 by default."""

    def __post_init__(self) -> None:
        self.refuse_unless_positive("searched_chars", "time_limit_s", "memory_limit_mb", "workers")
