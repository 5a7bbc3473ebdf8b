"""Scores a math answer against the ground truth, with math-verify in worker processes that can be killed.

`+reward_function=math` selects it and declares its options in reward.custom_reward_function.reward_kwargs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reinforcepp_verl.config import keys
from reinforcepp_verl.config.math_reward_options import SCALES, MathRewardOptions
from reinforcepp_verl.rewards import verifier
from reinforcepp_verl.rewards.extraction import extract_answer
from reinforcepp_verl.rewards.failures import NO_GROUND_TRUTH
from reinforcepp_verl.rewards.worker_pool import shared_pool

PRELOADED = ("reinforcepp_verl.rewards.verifier", "reinforcepp_verl.rewards.warm_parser")
"""Imported once, by the process that the workers are forked from."""
_LONGEST_DECIMAL_BITS = 10_000
PRED_CHARS = 300
"""Number of characters of an answer kept in the rollout dumps."""


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: dict[str, Any] | None = None,
    *,
    reward_router_address: str | None = None,
    reward_model_tokenizer: Any = None,
    **options: Any,
) -> dict[str, float | str]:
    """Score one solution, correct if it equals the ground truth or any of several; options: `MathRewardOptions`.

    Always returns `score`, the reward; `acc`, 1.0 if correct; `pred`, the extracted answer; `format`, 1.0 if it was
    marked as the answer; and `error`, why it was not compared: "" if it was, else `no answer`,
    `answer too large: ...`, `not parsed`, `no ground truth`, `ground truth too large: ...`, `ground truth not parsed`,
    `timeout`, `crashed`, `memory` or `error: ...`. verl averages the numbers over validation.

    Raises:
        ValueError: an option is invalid, or needs a key that `extra_info` lacks
    """
    chosen = MathRewardOptions.from_mapping(options)
    answer = extract_answer(solution_str, chosen.last_number, chosen.searched_chars, chosen.skip_thinking)
    formatted = answer.formatted and bool(verifier.normal_form(answer.text[: chosen.max_answer_chars]))
    result = verify_any(answer.text, _truths(ground_truth), chosen)
    wrong, right = SCALES[chosen.score_scale]
    score = (right if result.correct else wrong) + chosen.format_reward * formatted
    return {
        "score": _apply_length_penalties(score, extra_info or {}, chosen),
        "acc": float(result.correct),
        "pred": answer.text[:PRED_CHARS],
        "format": float(formatted),
        "error": result.reason,
    }


def _truths(ground_truth: Any) -> list[str]:
    """Return the ground truths as text, "" for a missing one; lists in Parquet arrive as arrays."""
    given = ground_truth.tolist() if isinstance(ground_truth, np.ndarray) else ground_truth
    several = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    return ["" if truth is None else _text(truth) for truth in several]


def _text(truth: Any) -> str:
    # Python refuses to write integers of thousands of digits as decimals. Such a text is refused for its length.
    return hex(truth) if isinstance(truth, int) and truth.bit_length() > _LONGEST_DECIMAL_BITS else str(truth)


def verify_any(answer: str, ground_truths: list[str], options: MathRewardOptions) -> verifier.VerifyResult:
    """Return the first correct result; if there is none, the first with a reason. Each may take the time limit."""
    wrong = []
    for truth in ground_truths:
        result = verify_answer(answer, truth, options)
        if result.correct:
            return result
        wrong.append(result)
    return max(wrong, key=lambda result: bool(result.reason), default=verifier.VerifyResult(False, NO_GROUND_TRUTH))


def verify_answer(answer: str, ground_truth: str, options: MathRewardOptions) -> verifier.VerifyResult:
    """Compare an answer with the ground truth: here if text or plain numbers suffice, else in a worker process."""
    stated = verifier.ground_truth_answer(ground_truth)
    for text, whose in ((answer, "answer"), (stated, "ground truth")):
        if len(text) > options.max_answer_chars:
            return verifier.VerifyResult(False, f"{whose} too large: length")
    truth, given = verifier.normal_forms(stated, answer)
    decided = verifier.decide(truth, given)
    if decided is None:
        decided = verifier.reject_unsafe(truth, given, options.max_answer_chars, options.max_exponent)
    if decided is not None:
        return decided
    pool = shared_pool(options.workers, options.memory_limit_mb, PRELOADED)
    outcome = pool.run(verifier.compare, truth, given, time_limit_s=options.time_limit_s)
    return verifier.VerifyResult(False, outcome.failure) if outcome.failure else outcome.value


def _apply_length_penalties(score: float, facts: Mapping[str, Any], options: MathRewardOptions) -> float:
    """Apply DAPO's overlong penalty, then ProRL's penalty for truncated texts, in OpenRLHF's order."""
    limit, buffer = options.overlong_max_tokens, options.overlong_buffer_tokens
    if limit is not None:
        excess = min(_fact(facts, "response_tokens", "overlong_max_tokens") - (limit - buffer), buffer)
        score -= max(excess, 0) / buffer * options.overlong_penalty_factor
    if options.truncated_penalty is None or not _fact(facts, "truncated", "truncated_penalty"):
        return score
    return score * options.truncated_penalty if options.truncated_penalty >= 0 else options.truncated_penalty


def _fact(facts: Mapping[str, Any], name: str, option: str) -> Any:
    if name not in facts:
        raise ValueError(
            f"{keys.REWARD_KWARGS}.{option} needs extra_info[{name!r}], which {keys.REWARD_MANAGER_NAME}=reinforcepp "
            "passes on"
        )
    return facts[name]
