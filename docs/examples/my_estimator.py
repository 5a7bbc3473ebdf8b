"""An advantage estimator of your own: reward-to-go minus the mean return of the prompt's tokens, normalised.

Run it: `python docs/examples/my_estimator.py`. Train with it: docs/write_your_own_estimator.md.
"""

import numpy as np
import torch
from omegaconf import OmegaConf

from reinforcepp_verl.algorithm.batch import RewardBatch, read
from reinforcepp_verl.algorithm.moments import Memory, Moments
from reinforcepp_verl.algorithm.normalise import Estimate, Returns, normalised, rewards_to_go
from reinforcepp_verl.algorithm.options import ReinforceppOptions
from reinforcepp_verl.algorithm.samples import rows_without_rival
from reinforcepp_verl.integration.adapters import ESTIMATORS, register_estimator


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
    return normalised(reading, Returns(tokens, mean - baseline, deviations), pinned=pinned)


register_estimator("group_returns", group_returns, discounts=True)

if __name__ == "__main__":
    rewards = torch.tensor([[-0.1, 0.0, 1.0], [0.0, -0.2, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 0], [1, 0, 0]])
    uids = np.array(["a", "a", "b", "b"])
    advantages, _ = ESTIMATORS["group_returns"](rewards, mask, OmegaConf.create({"gamma": 1.0}), uids)
    for uid, row in zip(uids, advantages.tolist(), strict=True):
        print(uid, *(f"{value:7.4f}" for value in row))
