"""Identities that hold for all inputs."""

from dataclasses import replace

import pytest
import torch

from reinforcepp_verl.algorithm.batch import RewardBatch
from reinforcepp_verl.algorithm.estimators import reinforcepp, reinforcepp_baseline
from reinforcepp_verl.algorithm.options import OPENRLHF

SAMPLES = replace(OPENRLHF, population="sample")


def ragged(rows=12, length=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(rows, length, generator=generator) > 0.4
    mask[:, 0] = True
    scores = torch.zeros(rows, length, dtype=torch.float64)
    scores[:, -1] = torch.randn(rows, generator=generator, dtype=torch.float64)
    return RewardBatch(scores, mask, group_index=torch.arange(rows) // 4)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("estimator", [reinforcepp, reinforcepp_baseline])
def test_mean_zero_and_variance_one_over_tokens(estimator, unbiased):
    batch = ragged()
    tokens = estimator(batch, replace(OPENRLHF, unbiased_variance=unbiased)).advantages[batch.response_mask]
    assert tokens.mean().item() == pytest.approx(0, abs=1e-12)
    assert tokens.var(correction=int(unbiased)).item() == pytest.approx(1)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("estimator", [reinforcepp, reinforcepp_baseline])
def test_mean_zero_and_variance_one_over_samples(estimator, unbiased):
    batch = ragged()
    advantages = estimator(batch, replace(SAMPLES, unbiased_variance=unbiased)).advantages
    rows = torch.stack([row[valid].mean() for row, valid in zip(advantages, batch.response_mask, strict=True)])
    assert rows.mean().item() == pytest.approx(0, abs=1e-12)
    assert rows.var(correction=int(unbiased)).item() == pytest.approx(1)


def test_a_group_of_equal_scores_stays_at_zero_when_samples_weigh_the_same():
    batch, silent = ragged(), ragged(rows=4, seed=1)
    silent.token_level_scores[:, -1] = 0.7
    joined = RewardBatch(
        torch.cat([batch.token_level_scores, silent.token_level_scores]),
        torch.cat([batch.response_mask, silent.response_mask]),
        group_index=torch.cat([batch.group_index, torch.full((4,), 9)]),
    )
    torch.testing.assert_close(
        reinforcepp_baseline(joined, SAMPLES).advantages[12:],
        torch.zeros(4, 9, dtype=torch.float64),
        atol=1e-12,
        rtol=0,
    )
    assert reinforcepp_baseline(joined, OPENRLHF).advantages[12:].abs().max() > 0.01


@pytest.mark.parametrize("own_noise", [0.0, 1.5])
def test_the_standard_deviation_depends_on_the_rows_own_reward(own_noise):
    # Paper, App. A, theorem 1: E[D^2 | e_i] = (N-1)^2/N^2 s^2 + (N-1)/N^2 e_i^2, so that dividing by D is biased for
    # every finite population; within 1/N for the batch, far off for a group of four.
    trials, sigma = 500, 1.0
    generator = torch.Generator().manual_seed(0)
    for size in (4, 64):
        noise = sigma * torch.randn(trials, size, generator=generator, dtype=torch.float64)
        noise[:, 0] = own_noise
        squares = torch.tensor(
            [
                reinforcepp(RewardBatch(row.unsqueeze(-1), torch.ones(size, 1)), OPENRLHF).metrics[
                    "reinforcepp/raw_advantage/std"
                ]
                ** 2
                for row in noise
            ]
        )
        expected = (size - 1) ** 2 / size**2 * sigma**2 + (size - 1) / size**2 * own_noise**2
        assert squares.mean().item() == pytest.approx(expected, abs=4 * squares.std().item() / trials**0.5)
