"""A policy loss of your own: Simple Policy Optimization (arXiv 2401.16025), a penalty in place of the clip.

Run it: `python docs/examples/my_loss.py`. Train with it: docs/write_your_own_loss.md.
"""

from dataclasses import dataclass

import torch

from reinforcepp_verl.plugin import ClipRange, LossBatch, LossTerms, register_policy_loss


@dataclass
class SpoOptions:
    """The keys of `actor_rollout_ref.actor.policy_loss.options`."""

    epsilon: float = 0.2
    """Distance of the ratio from 1 at which the objective is largest."""

    def __post_init__(self) -> None:
        if self.epsilon <= 0:
            raise ValueError(f"epsilon is {self.epsilon}: it must be above 0")


def spo(batch: LossBatch, options: SpoOptions) -> LossTerms:
    """Compute `-(r A - |A| (r - 1)^2 / (2 epsilon))` for each token, r the ratio of new to old probability."""
    ratio = (batch.log_prob - batch.old_log_prob).clamp(-20, 20).exp()
    penalty = batch.advantages.abs() * (ratio - 1).square() / (2 * options.epsilon)
    outside = (ratio - 1).abs() > options.epsilon
    metrics = {"spo/penalty": penalty, "spo/outside": outside, "spo/epsilon": options.epsilon}
    return LossTerms(penalty - ratio * batch.advantages, metrics)


register_policy_loss("spo", spo, options=SpoOptions)

if __name__ == "__main__":
    old_log_prob = torch.tensor([[0.5, 0.5, 0.5]]).log()
    log_prob = torch.tensor([[0.5, 0.6, 0.9]]).log().requires_grad_()
    mask = torch.ones(1, 3, dtype=torch.bool)
    batch = LossBatch(log_prob, old_log_prob, torch.ones(1, 3), mask, ClipRange(0.2, 0.2))
    terms = spo(batch, SpoOptions())
    terms.loss.sum().backward()
    for name, row in (("loss", terms.loss), ("gradient", log_prob.grad)):
        print(f"{name:8}", *(f"{value:7.4f}" for value in row[0].tolist()))
