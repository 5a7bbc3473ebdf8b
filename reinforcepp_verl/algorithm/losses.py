"""The clipped policy loss of REINFORCE++ (arXiv 2501.03262v9, Eq. 1) as pure tensor functions.

Shapes are (B, T). The loss is not aggregated here: that depends on the global batch, which only the trainer knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from reinforcepp_verl.algorithm.options import NoOptions

LOG_RATIO_LIMIT = 20.0
"""exp(20) = 5e8 leaves room for sums in fp32, where exp(89) is already inf; such ratios carry no information."""


@dataclass(frozen=True)
class ClipRange:
    """The actor's clip range: the ratio of new to old probability stays within 1 - low and 1 + high."""

    low: float
    high: float
    dual: float | None = None
    """Cap on the loss of a negative advantage, as a multiple of it (`clip_ratio_c`); None for no cap."""


@dataclass(frozen=True)
class LossBatch:
    """The inputs of a policy loss: one micro-batch, each tensor (B, T), with 0 on masked tokens."""

    log_prob: Tensor
    """Log-probabilities of the sampled tokens under the trained policy; they carry the gradient."""
    old_log_prob: Tensor
    """Log-probabilities of the same tokens under the policy before the step's updates."""
    advantages: Tensor
    response_mask: Tensor
    """True on valid tokens."""
    clip: ClipRange


@dataclass(frozen=True)
class LossTerms:
    """The outputs of a policy loss; rollout-correction weights, aggregation, entropy and KL loss are applied later."""

    loss: Tensor
    """(B, T), to be minimized."""
    metrics: Mapping[str, Tensor | float] = field(default_factory=dict)
    """Metrics for the tracker: a tensor (B, T) is averaged over valid tokens, a number is used as is. verl averages
    both over micro-batches and workers."""


class SurrogateTerms(NamedTuple):
    """Per-token results of the clipped surrogate, each (B, T)."""

    loss: Tensor
    """Loss to be minimized; carries the gradient."""
    clipped: Tensor
    """True where the clipped term is the larger loss, so that the token has no gradient."""
    dual_clipped: Tensor
    """True where the dual clip caps the loss of a negative advantage."""
    approx_kl: Tensor
    """k1 estimate of KL(old || new): old - new log-probability, limited to +-LOG_RATIO_LIMIT."""


def clipped_surrogate(
    log_prob: Tensor,
    old_log_prob: Tensor,
    *,
    advantages: Tensor,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
) -> SurrogateTerms:
    """Compute `max(-s A, -clip(s, 1 - clip_low, 1 + clip_high) A)` with `s = exp(log_prob - old_log_prob)` (Eq. 1).

    With `dual_clip` = c > 1 the loss of a negative advantage is capped at `-c A` (arXiv 1912.09729).
    """
    compute_dtype = torch.promote_types(log_prob.dtype, torch.float32)
    log_ratio = log_prob.to(compute_dtype) - old_log_prob.to(compute_dtype)
    log_ratio = log_ratio.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    ratio = log_ratio.exp()
    unclipped_loss = -advantages * ratio
    clipped_loss = -advantages * ratio.clamp(1 - clip_low, 1 + clip_high)
    loss = torch.maximum(unclipped_loss, clipped_loss)
    dual_clipped = torch.zeros_like(loss, dtype=torch.bool)
    if dual_clip is not None:
        cap = -advantages * dual_clip
        dual_clipped = (advantages < 0) & (loss > cap)
        loss = torch.where(dual_clipped, cap, loss)
    return SurrogateTerms(loss, clipped_loss > unclipped_loss, dual_clipped, -log_ratio)


def clipped_loss(batch: LossBatch, _: NoOptions) -> LossTerms:
    """Compute the loss `reinforcepp`: the clipped surrogate, with the actor's clip range."""
    terms = _surrogate(batch.log_prob, batch.old_log_prob, batch.advantages, batch.clip)
    ratio = torch.where(batch.response_mask, (-terms.approx_kl.detach()).exp(), 0.0)
    return LossTerms(terms.loss, _clip_metrics(terms, batch.advantages, ratio))


def clipped_answer_loss(batch: LossBatch, _: NoOptions) -> LossTerms:
    """Compute the loss `reinforcepp_answer`: the answer is one action, with the ratio of whole answers.

    `s = exp(sum over valid tokens of log_prob - old_log_prob)`, clipped as a ratio of tokens is (arXiv 2402.14740 takes
    the answer as the action). Each token of an answer with n valid ones carries 1/n of the answer's loss, so that
    `seq-mean-token-sum` averages over answers. Its advantage is the mean over its tokens, which are equal for the
    estimators that score whole answers. Metrics are means over tokens, so that an answer counts by its length.
    """
    mask = batch.response_mask
    tokens = mask.sum(-1, keepdim=True).clamp(min=1)
    log_prob, old_log_prob, total_advantage = (
        torch.where(mask, values, 0.0).sum(-1, keepdim=True)
        for values in (batch.log_prob, batch.old_log_prob, batch.advantages)
    )
    advantage = total_advantage / tokens
    terms = _surrogate(log_prob, old_log_prob, advantage, batch.clip)
    ratio = torch.where(mask.any(-1, keepdim=True), (-terms.approx_kl.detach()).exp(), 0.0)
    # The KL per token, so that limits on it mean the same for all losses.
    metrics = {**_clip_metrics(terms, advantage, ratio), "actor/ppo_kl": terms.approx_kl / tokens}
    spread = {name: m.expand(mask.shape) if isinstance(m, Tensor) else m for name, m in metrics.items()}
    return LossTerms(torch.where(mask, terms.loss / tokens, 0.0), spread)


def _surrogate(log_prob: Tensor, old_log_prob: Tensor, advantages: Tensor, clip: ClipRange) -> SurrogateTerms:
    return clipped_surrogate(
        log_prob, old_log_prob, advantages=advantages, clip_low=clip.low, clip_high=clip.high, dual_clip=clip.dual
    )


def _clip_metrics(terms: SurrogateTerms, advantages: Tensor, ratio: Tensor) -> dict[str, Tensor | float]:
    return {
        "actor/pg_clipfrac": terms.clipped,
        "actor/ppo_kl": terms.approx_kl,
        "actor/pg_clipfrac_lower": terms.dual_clipped,
        "actor/clip_fraction_low": terms.clipped & (advantages < 0),
        "actor/clip_fraction_high": terms.clipped & (advantages > 0),
        "actor/ratio_max": ratio.max().item(),
    }


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Average `values` over the tokens marked by `mask`; 0 if there are none."""
    valid = mask.bool()
    return torch.where(valid, values.float(), 0.0).sum() / valid.sum().clamp(min=1)
