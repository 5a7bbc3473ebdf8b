"""Scores a mathematical answer against the ground truth, by math-verify in worker processes that can be killed.

reward.custom_reward_function.path=pkg://reinforcepp_verl.rewards.math
reward.custom_reward_function.name=compute_score
+reward.custom_reward_function.reward_kwargs.score_scale=plus_minus_one
"""

from __future__ import annotations

from typing import Any

from reinforcepp_verl.rewards import verifier
from reinforcepp_verl.rewards.extraction import extract_answer
from reinforcepp_verl.rewards.options import SCALES, MathRewardOptions
from reinforcepp_verl.rewards.pool import shared_pool

PRED_CHARS = 300
"""How much of an answer is kept in the rollout dumps."""


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict[str, Any] | None = None,
    *,
    reward_router_address: str | None = None,
    reward_model_tokenizer: Any = None,
    **options: Any,
) -> dict[str, float | str]:
    """Score one solution; the options are those of `MathRewardOptions`.

    Always returns `score`, the reward; `acc`, 1.0 if right; `pred`, the answer found; `format`, 1.0 if it was marked as
    the answer; and `error`, why it was not compared: "" if it was, else `no answer`, `answer too large: ...`,
    `not parsed`, `timeout`, `crashed`, `memory` or `error: ...`. verl averages the numbers over validation.
    """
    chosen = MathRewardOptions.of(options)
    answer = extract_answer(solution_str, chosen.last_number, chosen.searched_chars)
    verdict = judge(answer.text, str(ground_truth), chosen)
    wrong, right = SCALES[chosen.score_scale]
    score = (right if verdict.correct else wrong) + chosen.format_reward * answer.formatted
    return {
        "score": _penalised(score, len(solution_str), (extra_info or {}).get("truncated"), chosen),
        "acc": float(verdict.correct),
        "pred": answer.text[:PRED_CHARS],
        "format": float(answer.formatted),
        "error": verdict.reason,
    }


def judge(answer: str, ground_truth: str, options: MathRewardOptions) -> verifier.Verdict:
    """Compare an answer with the ground truth: here if text or plain numbers decide it, else in a worker process."""
    stated = verifier.strip_truth(ground_truth)
    for text, whose in ((answer, "answer"), (stated, "ground truth")):
        if len(text) > options.max_answer_chars:
            return verifier.Verdict(False, f"{whose} too large: length")
    truth, given = verifier.normal_form(stated), verifier.normal_form(answer)
    decided = verifier.compare_plain(truth, given)
    if decided is None:
        decided = verifier.refusal(truth, given, options.max_answer_chars, options.max_exponent)
    if decided is not None:
        return decided
    pool = shared_pool(options.workers, options.memory_limit_mb, (verifier.__name__, "math_verify"))
    outcome = pool.run(verifier.compare, truth, given, time_limit_s=options.time_limit_s)
    return verifier.Verdict(False, outcome.failure) if outcome.failure else outcome.value


def _penalised(score: float, length: int, truncated: bool | None, options: MathRewardOptions) -> float:
    """Apply DAPO's overlong penalty, then ProRL's penalty of truncated texts, in OpenRLHF's order."""
    limit = options.overlong_max_chars
    if limit is not None:
        excess = min(length - (limit - options.overlong_buffer_chars), options.overlong_buffer_chars)
        score -= max(excess, 0) / options.overlong_buffer_chars * options.overlong_penalty_factor
    if options.truncated_penalty is None:
        return score
    if truncated is None:
        if limit is None:
            raise ValueError("truncated_penalty needs extra_info['truncated'] or overlong_max_chars")
        truncated = length >= limit
    if not truncated:
        return score
    return score * options.truncated_penalty if options.truncated_penalty >= 0 else options.truncated_penalty
