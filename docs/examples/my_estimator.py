"""An advantage estimator of your own: reward-to-go minus the mean return of the prompt's tokens, normalized.

Run it: `python docs/examples/my_estimator.py`. Train with it: docs/write_your_own_estimator.md.
"""

import torch

from reinforcepp_verl.algorithm.batch import prepare
from reinforcepp_verl.algorithm.moments import Moments
from reinforcepp_verl.algorithm.normalize import Returns, normalized_advantages, rewards_to_go
from reinforcepp_verl.algorithm.samples import rows_without_group_peers
from reinforcepp_verl.plugin import (
    SHAPING_OPTIONS,
    STATISTICS_OPTIONS,
    Estimate,
    Memory,
    ReinforceppOptions,
    RewardBatch,
    Traits,
    register_estimator,
)

OPTIONS_READ = SHAPING_OPTIONS | STATISTICS_OPTIONS | {"zero_signal"}


def group_returns(
    batch: RewardBatch, options: ReinforceppOptions, *, gamma: float = 1.0, memory: Memory | None = None
) -> Estimate:
    """Compute `G_t - mean of G over the tokens of the prompt's answers`, normalized over the batch."""
    prepared = prepare(batch, options, memory)
    tokens, mean, squared_deviations = rewards_to_go(prepared, prepared.shaping, gamma=gamma)
    baseline = torch.zeros_like(mean)
    for group in prepared.group_index.unique():
        members = (prepared.group_index == group) & prepared.usable
        baseline[members] = Moments.from_rows(prepared.rows.tokens, mean, squared_deviations, members.double()).mean
    tokens = torch.where(prepared.mask, tokens - baseline.unsqueeze(-1), 0.0).to(tokens.dtype)
    excluded = prepared.zero_signal_rows(prepared.group_index)
    excluded |= rows_without_group_peers(prepared.group_index, weight=prepared.weight)
    estimate = normalized_advantages(prepared, Returns(tokens, mean - baseline, squared_deviations), excluded=excluded)
    estimate.metrics["group_returns/largest_baseline"] = baseline.abs().max().item()
    return estimate


register_estimator(
    "group_returns", group_returns, traits=Traits(uses_gamma=True, needs_group=True, options_read=OPTIONS_READ)
)

if __name__ == "__main__":
    rewards = torch.tensor([[-0.1, 0.0, 1.0], [0.0, -0.2, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 0], [1, 0, 0]])
    prompts = torch.tensor([0, 0, 1, 1])
    batch = RewardBatch(rewards, mask, group_index=prompts)
    for prompt, row in zip("aabb", group_returns(batch, ReinforceppOptions()).advantages.tolist(), strict=True):
        print(prompt, *(f"{value:7.4f}" for value in row))
