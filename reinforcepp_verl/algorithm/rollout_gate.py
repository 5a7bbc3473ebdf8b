"""A trust region between rollout engine and trainer: which tokens are close enough to train on.

The rollout engine samples with other arithmetic, and maybe older weights, than the trainer computes with. Tensors hold
the tokens of all answers one after the other, (N,); `offsets` (B + 1,) are the answers' first tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reinforcepp_verl.algorithm.one_thread import one_thread
from reinforcepp_verl.algorithm.rollout_gate_options import DIVERGENCES

SMALLEST_PROBABILITY = 1e-6
"""Probabilities are kept this far from 0 and 1, as in OpenRLHF 0.11.2, so that the logarithms are finite."""


def divergence(kind: str, *, old_log_prob: Tensor, rollout_log_prob: Tensor) -> Tensor:
    """Return how far the trainer is from the rollout engine on each sampled token (N,), from the two probabilities.

    With p of the engine and q of the trainer, `binary_kl` is the KL between "this token" and "another one",
    `p log(p / q) + (1 - p) log((1 - p) / (1 - q))`, and `total_variation` is `|p - q|` (OpenRLHF 0.11.2, `PolicyLoss`).
    """
    p, q = rollout_log_prob.float().exp(), old_log_prob.float().exp()
    if kind == "binary_kl":
        p, q = (x.clamp(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY) for x in (p, q))
        return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    if kind == "total_variation":
        return (p - q).abs()
    raise ValueError(f"divergence is {kind!r}: it must be one of {', '.join(DIVERGENCES)}")


@one_thread
def kept_tokens(distance: Tensor, mask: Tensor, offsets: Tensor, *, level: str, limit: float) -> Tensor:
    """Return True (N,) for the valid tokens whose `distance`, or its mean over the answer, is at most `limit`."""
    valid = mask.bool()
    if level == "answer":
        sums, counts = (
            torch.segment_reduce(numbers, "sum", offsets=offsets)
            for numbers in (torch.where(valid, distance, 0.0).double(), valid.double())
        )
        distance = torch.repeat_interleave(sums / counts.clamp(min=1), offsets.diff())
    return valid & (distance <= limit)
