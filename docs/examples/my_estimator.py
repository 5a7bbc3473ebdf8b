"""An advantage estimator of your own: reward-to-go minus the mean return of the prompt's tokens, normalised.

Run it: `python docs/examples/my_estimator.py`. Train with it: docs/write_your_own_estimator.md.
"""

import torch

from reinforcepp_verl.algorithm.batch import read
from reinforcepp_verl.algorithm.moments import Moments
from reinforcepp_verl.algorithm.normalise import Returns, normalised, rewards_to_go
from reinforcepp_verl.algorithm.samples import rows_without_rival
from reinforcepp_verl.plugin import Estimate, Memory, ReinforceppOptions, RewardBatch, Traits, register_estimator


def group_returns(
    batch: RewardBatch, options: ReinforceppOptions, *, gamma: float = 1.0, memory: Memory | None = None
) -> Estimate:
    """Compute `G_t - mean of G over the tokens of the prompt's answers`, normalised over the batch."""
    reading = read(batch, options, memory)
    tokens, mean, deviations = rewards_to_go(reading, reading.shaping, gamma=gamma)
    baseline = torch.zeros_like(mean)
    for group in reading.group_index.unique():
        members = (reading.group_index == group) & reading.usable
        baseline[members] = Moments.of_rows(reading.rows.tokens, mean, deviations, members.double()).mean
    tokens = torch.where(reading.mask, tokens - baseline.unsqueeze(-1), 0.0).to(tokens.dtype)
    pinned = reading.silent(reading.group_index) | rows_without_rival(reading.group_index, weight=reading.weight)
    estimate = normalised(reading, Returns(tokens, mean - baseline, deviations), pinned=pinned)
    estimate.metrics["group_returns/largest_baseline"] = baseline.abs().max().item()
    return estimate


register_estimator("group_returns", group_returns, traits=Traits(uses_gamma=True, needs_group=True))

if __name__ == "__main__":
    rewards = torch.tensor([[-0.1, 0.0, 1.0], [0.0, -0.2, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 0], [1, 0, 0]])
    prompts = torch.tensor([0, 0, 1, 1])
    batch = RewardBatch(rewards, mask, group_index=prompts)
    for prompt, row in zip("aabb", group_returns(batch, ReinforceppOptions()).advantages.tolist(), strict=True):
        print(prompt, *(f"{value:7.4f}" for value in row))
