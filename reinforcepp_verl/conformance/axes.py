"""What an implementation can do differently, in words: the alternatives that a diagnosis tries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Axis:
    """One choice: a field of the rules, and each of its values in words."""

    field: str
    words: dict[Any, str]


ADVANTAGE_AXES = (
    Axis("ddof", {0: "the variance divides by n", 1: "the variance divides by n - 1"}),
    Axis(
        "floor",
        {
            "max(var, 1e-8)": "the variance is at least 1e-8",
            "var + 1e-8": "1e-8 is added to the variance",
            "std + 1e-4": "1e-4 is added to the standard deviation",
            "std + 1e-6": "1e-6 is added to the standard deviation",
            "none": "nothing keeps a spread of 0 from dividing",
        },
    ),
    Axis(
        "baseline",
        {
            "none": "no group mean is subtracted",
            "group_mean": "the mean of the prompt's group is subtracted (the baseline variant)",
            "leave_one_out": "the mean of the group's other answers is subtracted (leave-one-out)",
        },
    ),
    Axis(
        "population",
        {
            "token": "every valid token has the same weight in mean and variance",
            "row": "every row has the same weight in mean and variance",
            "session": "every answer has the same weight in mean and variance, however many rows it has",
        },
    ),
    Axis("center", {True: "the mean of the batch is subtracted", False: "the mean of the batch is not subtracted"}),
    Axis(
        "spread",
        {
            "batch": "the standard deviation is that of the batch",
            "group": "the standard deviation is that of each prompt's group",
            "none": "nothing divides by a standard deviation",
        },
    ),
    Axis(
        "spread_of",
        {
            "returns": "the standard deviation is that of the values it normalizes",
            "scores": "the standard deviation is that of the scores before the baseline",
        },
    ),
    Axis(
        "positions",
        {
            "valid": "only valid tokens are counted in the statistics",
            "all": "masked tokens and padding are counted in the statistics, as zeros",
            "answer": "masked tokens of an answer are counted in the statistics, with their returns",
        },
    ),
    Axis(
        "statistics_of",
        {"batch": "mean and variance are of the batch", "mini_batch": "mean and variance are of each mini-batch"},
    ),
    Axis(
        "credit",
        {
            "to_go": "a token gets the scores from it to the end",
            "every_token": "every token gets the sum of all scores of the answer, undiscounted",
            "own_token": "a token gets only its own score, so that an outcome reaches only the last token",
        },
    ),
    Axis("discounted", {True: "gamma is applied", False: "gamma is ignored"}),
    Axis(
        "discount",
        {
            "valid_tokens": "masked tokens in between add no discount and end no sum",
            "every_position": "gamma also counts masked tokens in between",
            "restart": "the sum restarts at a masked token, so that what comes after it is lost",
        },
    ),
    Axis(
        "masked_score",
        {
            "moved": "a score on a masked token counts for the valid tokens before it",
            "lost": "a score on a masked token is lost",
        },
    ),
    Axis(
        "kl",
        {
            "k1": "the KL in the reward is k1, log pi_old - log pi_ref",
            "none": "the KL is not in the reward",
            "-k1": "the KL in the reward has the wrong sign",
            "k2": "the KL in the reward is k2",
            "k3": "the KL in the reward is k3",
            "abs": "the KL in the reward is |k1|",
        },
    ),
    Axis(
        "kl_credit",
        {
            "to_go": "a token gets the KL penalties from it to the end",
            "whole_answer": "the KL penalties are summed into the score of the answer, before any baseline",
            "own_token": "a token gets only its own KL penalty",
        },
    ),
    Axis("kl_limit", {None: "the KL of a token is not limited", 10.0: "the KL of a token is limited to +-10"}),
    Axis(
        "clip",
        {
            "none": "scores are not clipped",
            "after_baseline": "scores are clipped after the group mean was subtracted",
            "before_baseline": "scores are clipped before the group mean is subtracted",
        },
    ),
    Axis(
        "lone_answer",
        {"zero": "a group of one answer gets advantage 0", "raw": "a group of one answer keeps its raw score"},
    ),
    Axis(
        "answers",
        {
            "sessions": "an answer of several rows counts once in the group mean",
            "rows": "an answer of several rows counts once per row in the group mean",
        },
    ),
    Axis(
        "empty_rows",
        {
            "left_out": "a row without a valid token is in no mean",
            "counted": "a row without a valid token counts in means",
        },
    ),
)

LOSS_AXES = (
    Axis(
        "aggregation",
        {
            "token-mean": "the loss is the mean over tokens",
            "seq-mean-token-mean": "the loss is the mean over answers of their token mean",
            "seq-mean-token-sum": "the loss is the mean over answers of their token sum",
            "seq-mean-token-sum-norm": "the loss is the mean over answers of their token sum, divided by the width",
            "token-sum": "the loss is the sum over tokens",
        },
    ),
    Axis(
        "divisor",
        {
            "mini_batch": "the loss does not depend on the split into micro-batches",
            "micro_batch": "each micro-batch divides by its own size, and the results are averaged",
            "micro_batch_of_answers": "a mean over answers is taken in each micro-batch, and the results are averaged",
        },
    ),
    Axis("dual_clip", {None: "there is no dual clip", 3.0: "a dual clip of 3 is on"}),
    Axis(
        "clip",
        {
            "low_and_high": "the ratio is clipped to 1 - low and 1 + high",
            "low_for_both": "the ratio is clipped to 1 - low and 1 + low",
            "none": "the ratio is not clipped",
        },
    ),
    Axis(
        "ratio",
        {
            "token": "each token has its own ratio",
            "answer_product": "a token has the ratio of the whole answer",
            "answer_mean": "a token has the geometric mean of the answer's ratios",
        },
    ),
    Axis("ratio_limit", {20.0: "log-ratios are limited to +-20", None: "log-ratios are not limited"}),
    Axis(
        "bound",
        {
            "pessimistic": "the larger of the clipped and the unclipped loss counts",
            "optimistic": "the smaller of the clipped and the unclipped loss counts",
        },
    ),
    Axis(
        "direction",
        {"minimized": "the result is to be minimized", "maximized": "the result is the negative of the loss"},
    ),
    Axis(
        "kl",
        {
            "k2": "the KL loss is k2",
            "k1": "the KL loss is k1",
            "k3": "the KL loss is k3",
            "none": "there is no KL loss",
            "-k1": "the KL loss is -k1",
        },
    ),
    Axis(
        "kl_gradient",
        {"own": "the KL loss has its own gradient", "k2": "the KL loss has the gradient of k2"},
    ),
    Axis(
        "kl_limit",
        {None: "the KL loss of a token is not limited", 10.0: "the KL loss of a token is limited to +-10"},
    ),
    Axis("positions", {"valid": "only valid tokens are in the loss", "all": "masked tokens are in the loss"}),
    Axis(
        "empty_rows",
        {
            "left_out": "a row without a valid token is not counted as an answer",
            "counted": "a row without a valid token is counted as an answer",
        },
    ),
)

AXES = {"reinforcepp": ADVANTAGE_AXES, "reinforcepp_baseline": ADVANTAGE_AXES, "policy_loss": LOSS_AXES}
"""By `Case.part`."""
