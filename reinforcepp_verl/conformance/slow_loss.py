"""The clipped policy loss with its KL loss in plain Python, value and gradient, by rules that name every choice."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reinforcepp_verl.conformance.slow_advantages import Row, kl_estimate

Term = tuple[float, float]
"""Value of a token's loss, and its derivative by the exponent of the ratio or by the log-probability."""


@dataclass(frozen=True)
class LossRules:
    """Every choice between log-probabilities and the loss; `axes.py` puts the values into words."""

    ratio: str = "token"
    ratio_limit: float | None = 20.0
    direction: str = "minimized"
    bound: str = "pessimistic"
    clip: str = "low_and_high"
    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float | None = None
    kl: str = "k2"
    kl_coef: float = 0.0
    kl_gradient: str = "own"
    kl_limit: float | None = None
    positions: str = "valid"
    aggregation: str = "token-mean"
    empty_rows: str = "left_out"
    divisor: str = "mini_batch"


def rules_of_case(options: dict[str, Any]) -> LossRules:
    """Translate the options of a case."""
    kind = options["kl_loss_type"]
    return LossRules(
        clip_low=options["clip_ratio_low"],
        clip_high=options["clip_ratio_high"],
        dual_clip=options["clip_ratio_c"],
        kl=kind.rstrip("+"),
        kl_coef=options["kl_loss_coef"],
        kl_gradient="k2" if kind.endswith("+") else "own",
        aggregation=options["loss_agg_mode"],
    )


def policy_loss(inputs: dict[str, Any], rules: LossRules) -> dict[str, Any]:
    """Compute `loss` and `grad` (B, T), its gradient by `log_prob`."""
    new, mask = inputs["log_prob"], inputs["response_mask"]
    positions = [
        (i, t) for i, row in enumerate(mask) for t, valid in enumerate(row) if valid or rules.positions == "all"
    ]
    rows = [[t for j, t in positions if j == i] for i in range(len(mask))]
    weight = _weights(rows, len(mask[0]), inputs.get("micro_batches") or [list(range(len(mask)))], rules)
    loss: list[float] = []
    slope = [[0.0] * len(row) for row in mask]
    for i, tokens in enumerate(rows):
        gaps = [new[i][t] - inputs["old_log_prob"][i][t] for t in tokens]
        for place, t in enumerate(tokens):
            exponent, reach = _exponent(gaps, place, rules)
            value, derivative = _surrogate(exponent, inputs["advantages"][i][t], rules)
            loss.append(weight[i] * value)
            for target, share in reach.items():
                slope[i][tokens[target]] += weight[i] * derivative * share
            if inputs.get("ref_log_prob") is not None and rules.kl_coef:
                value, derivative = _kl_loss(new[i][t] - inputs["ref_log_prob"][i][t], rules)
                loss.append(weight[i] * rules.kl_coef * value)
                slope[i][t] += weight[i] * rules.kl_coef * derivative
    sign = 1.0 if rules.direction == "minimized" else -1.0
    grad: list[Row] = [
        [sign * value if valid else None for value, valid in zip(*pair, strict=True)]
        for pair in zip(slope, mask, strict=True)
    ]
    return {"loss": sign * math.fsum(loss), "grad": grad}


def _exponent(gaps: list[float], place: int, rules: LossRules) -> tuple[float, dict[int, float]]:
    """The logarithm of a token's ratio, and its derivative by each token of the row."""
    if rules.ratio == "token":
        exponent, reach = gaps[place], {place: 1.0}
    else:
        share = 1.0 if rules.ratio == "answer_product" else 1 / len(gaps)
        exponent, reach = share * math.fsum(gaps), dict.fromkeys(range(len(gaps)), share)
    if rules.ratio_limit is not None and abs(exponent) > rules.ratio_limit:
        return math.copysign(rules.ratio_limit, exponent), {}
    return exponent, reach


def _surrogate(exponent: float, advantage: float, rules: LossRules) -> Term:
    """The loss of a token, and its derivative by the exponent."""
    ratio = math.exp(exponent)
    plain: Term = (-advantage * ratio, -advantage * ratio)
    low = rules.clip_low
    high = low if rules.clip == "low_for_both" else rules.clip_high
    if rules.clip == "none":
        bounded = plain
    else:
        inside = 1 - low <= ratio <= 1 + high
        bounded = plain if inside else (-advantage * min(max(ratio, 1 - low), 1 + high), 0.0)
    choose: Callable[..., Term] = max if rules.bound == "pessimistic" else min
    chosen = choose(plain, bounded, key=lambda term: term[0])
    if rules.dual_clip is not None and advantage < 0 and chosen[0] > -advantage * rules.dual_clip:
        return -advantage * rules.dual_clip, 0.0
    return chosen


def _kl_loss(gap: float, rules: LossRules) -> Term:
    value = kl_estimate(rules.kl, gap, rules.kl_limit)
    if rules.kl_limit is not None and abs(kl_estimate(rules.kl, gap)) > rules.kl_limit:
        return value, 0.0
    kind = "k2" if rules.kl_gradient == "k2" else rules.kl
    slopes = {"none": 0.0, "k1": 1.0, "-k1": -1.0, "k2": gap, "k3": 1 - math.exp(-gap)}
    return value, slopes[kind]


def _weights(rows: list[list[int]], width: int, micro_batches: list[list[int]], rules: LossRules) -> list[float]:
    """The weight of each row's tokens in the loss."""
    by_tokens = rules.aggregation.startswith("token")
    if rules.divisor == "mini_batch" or (rules.divisor == "micro_batch_of_answers" and by_tokens):
        micro_batches = [list(range(len(rows)))]
    weights = [0.0] * len(rows)
    for micro_batch in micro_batches:
        tokens = sum(len(rows[i]) for i in micro_batch)
        counted = sum(bool(rows[i]) or rules.empty_rows == "counted" for i in micro_batch)
        for i in micro_batch:
            if rows[i]:
                weight = {
                    "token-mean": 1 / tokens,
                    "token-sum": 1.0,
                    "seq-mean-token-mean": 1 / (len(rows[i]) * counted),
                    "seq-mean-token-sum": 1 / counted,
                    "seq-mean-token-sum-norm": 1 / (counted * width),
                }[rules.aggregation]
                weights[i] = weight / len(micro_batches)
    return weights
