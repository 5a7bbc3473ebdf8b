"""The options of the math reward, the node `reward.custom_reward_function.reward_kwargs`."""

from __future__ import annotations

from dataclasses import dataclass

from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reward_kwargs import RewardKwargs

SCALES = {"zero_one": (0.0, 1.0), "plus_minus_one": (-1.0, 1.0)}


@dataclass
class MathRewardOptions(RewardKwargs):
    """`reward.custom_reward_function.reward_kwargs` of `+reward_function=math`: how answers are found and scored."""

    score_scale: str = "zero_one"
    """`zero_one`: a wrong answer scores 0. `plus_minus_one`: it scores -1 (DAPO, verl's `math_dapo`)."""

    format_reward: float = 0.0
    r"""Added to the score of right and wrong answers that are in `\boxed{}`, after `####` or `Answer:`."""

    last_number: bool = False
    """Use the last number of a text that marks no answer."""

    skip_thinking: bool = True
    """Search only what follows the last `</think>`; nothing if a `<think>` does not end."""

    searched_chars: int = 16_000
    """Number of characters at the end of a text that are searched for its answer."""

    overlong_max_tokens: int | None = None
    """Length, from `extra_info["response_tokens"]`, at which DAPO's soft overlong penalty reaches its full value (arXiv
    2503.14476, Eq. 13); null for no penalty."""

    overlong_buffer_tokens: int = 0
    """The penalty grows linearly over this many tokens before `overlong_max_tokens`."""

    overlong_penalty_factor: float = 1.0
    """The full penalty: -min(length - (max - buffer), buffer) / buffer * factor is added to the score."""

    truncated_penalty: float | None = None
    """ProRL's penalty for a truncated text (`extra_info["truncated"]`), as in OpenRLHF's `stop_properly_penalty_coef`:
    from 0 to 1 it multiplies the score, below 0 it replaces it; null for none."""

    time_limit_s: float = 5.0
    """Seconds of CPU time for one comparison, after which its process is killed and the answer scored as wrong."""

    memory_limit_mb: int = 1024
    """Address space of one worker process."""

    workers: int = 2
    """Worker processes per scoring process; verl starts `reward.num_workers` scoring processes, 8 by default."""

    max_answer_chars: int = 1000
    """Longer answers count as wrong without being parsed."""

    max_exponent: int = 10_000
    """Answers with a larger exponent, factorial or binomial count as wrong without being parsed."""

    def __post_init__(self) -> None:
        if self.score_scale not in SCALES:
            raise ValueError(
                f"{keys.REWARD_KWARGS}.score_scale is {self.score_scale!r}: it must be one of {', '.join(SCALES)}"
            )
        self.refuse_unless_positive("searched_chars", "time_limit_s", "memory_limit_mb", "workers", "max_answer_chars")
        if self.max_exponent < 0:
            raise ValueError(f"{keys.REWARD_KWARGS}.max_exponent is {self.max_exponent}: it must be 0 or more")
        if self.overlong_max_tokens is not None and not 0 < self.overlong_buffer_tokens <= self.overlong_max_tokens:
            raise ValueError(
                f"{keys.REWARD_KWARGS}.overlong_buffer_tokens is {self.overlong_buffer_tokens}: with "
                f"overlong_max_tokens={self.overlong_max_tokens} it must be above 0 and at most that"
            )
        if self.truncated_penalty is not None and self.truncated_penalty > 1:
            raise ValueError(
                f"{keys.REWARD_KWARGS}.truncated_penalty is {self.truncated_penalty}: it must be at most 1"
            )

    @property
    def needs_length(self) -> bool:
        """True if the score depends on the answer's length in tokens, which only our reward manager passes on."""
        return self.overlong_max_tokens is not None or self.truncated_penalty is not None
