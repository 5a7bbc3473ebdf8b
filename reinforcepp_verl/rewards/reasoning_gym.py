"""Scores an answer with the verifier of its reasoning-gym task, in worker processes that can be killed.

`+reward_function=reasoning_gym` selects it and declares its options in reward.custom_reward_function.reward_kwargs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reinforcepp_verl.config.reasoning_gym_reward_options import ReasoningGymRewardOptions
from reinforcepp_verl.rewards import gym_verifier
from reinforcepp_verl.rewards.extraction import after_thinking
from reinforcepp_verl.rewards.gym_package import DATA_SOURCE_PREFIX
from reinforcepp_verl.rewards.worker_pool import shared_pool

CONFIG_KEY, ENTRY_KEY = "config", "entry"
"""Columns of `extra_info`, as JSON: the settings of the task, and its question with all that its verifier reads."""
PRELOADED = ("reinforcepp_verl.rewards.gym_verifier", "reasoning_gym")
"""Imported once, by the process that the workers are forked from, never by the caller's."""
OPENS, CLOSES = "<answer>", "</answer>"
PRED_CHARS = 300
"""Number of characters of an answer kept in the rollout dumps."""


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    reward_router_address: str | None = None,
    reward_model_tokenizer: Any = None,
    **options: Any,
) -> dict[str, float | str]:
    """Score one solution; options: `ReasoningGymRewardOptions`. The entry in `extra_info` counts, not `ground_truth`.

    Always returns `score`, the reward: the score from 0 to 1 of the task's verifier, which gives some answers a part;
    `acc`, 1.0 if that is 1; `pred`, the answer; `format`, 1.0 if it was in tags; and `error`, why it was not read: ""
    if it was, else `no answer`, `not parsed`, `timeout`, `crashed`, `memory` or `error: ...`.

    Raises:
        ValueError: an option is invalid, or the row was not written by `reinforcepp prepare reasoning_gym`
    """
    chosen = ReasoningGymRewardOptions.from_mapping(options)
    tagged, answer = find_answer(solution_str, chosen)
    verified, error = _verified(data_source, answer, extra_info or {}, chosen) if answer else (0.0, "no answer")
    return {
        "score": verified + chosen.format_reward * tagged,
        "acc": float(verified >= 1.0),
        "pred": answer[:PRED_CHARS],
        "format": float(tagged),
        "error": error,
    }


def find_answer(solution: str, options: ReasoningGymRewardOptions) -> tuple[bool, str]:
    """Return whether the last `<answer>` is closed and not empty, and what it holds; without one, the whole text.

    As reasoning-gym's `extract_answer`, but of `<answer>1 <answer>2</answer>` this is 2, in linear time.
    """
    text = (after_thinking(solution) if options.skip_thinking else solution)[-options.searched_chars :]
    before, closed, _ = text.rpartition(CLOSES)
    _, opened, answer = before.rpartition(OPENS)
    if closed and opened:
        return bool(answer.strip()), answer.strip()
    return False, text.strip() if options.whole_text and OPENS not in text else ""


def _verified(
    data_source: str, answer: str, extra_info: Mapping[str, Any], options: ReasoningGymRewardOptions
) -> tuple[float, str]:
    if not data_source.startswith(DATA_SOURCE_PREFIX) or not {CONFIG_KEY, ENTRY_KEY} <= extra_info.keys():
        raise ValueError(
            f"a row with the data source {data_source} was not written by `reinforcepp prepare reasoning_gym`, whose "
            "rows this reward function scores; remove it from the data, or use another reward function"
        )
    pool = shared_pool(options.workers, options.memory_limit_mb, PRELOADED)
    question = data_source.removeprefix(DATA_SOURCE_PREFIX), extra_info[CONFIG_KEY], extra_info[ENTRY_KEY]
    outcome = pool.run(gym_verifier.verify, *question, answer, time_limit_s=options.time_limit_s)
    return (0.0, outcome.failure) if outcome.failure else outcome.value
