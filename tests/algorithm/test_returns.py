"""Hand-computed cases for reinforcepp_verl.algorithm.returns."""

import pytest
import torch

from reinforcepp_verl.algorithm.batch import RewardBatch
from reinforcepp_verl.algorithm.estimators import reinforcepp
from reinforcepp_verl.algorithm.options import ReinforceppOptions

NAN = float("nan")


def tensor(*rows):
    return torch.tensor(rows, dtype=torch.float32)


def check(actual, expected, atol=1e-6):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), atol=atol, rtol=0)


def returns_to_go(rewards, mask, *, gamma):
    return reinforcepp(RewardBatch(rewards, mask), ReinforceppOptions(reward_clip=None), gamma=gamma).returns


@pytest.mark.parametrize(
    ("rewards", "mask", "gamma", "expected"),
    [
        ([0, 0, 0, 0, 0, 1], [1, 1, 0, 0, 1, 1], 1.0, [1, 1, 0, 0, 1, 1]),  # verl's multi-turn test
        ([0, 0, 0, 0, 2], [1, 1, 0, 0, 1], 0.5, [0.5, 1, 0, 0, 2]),
        ([1, 1, 1], [1, 1, 1], 0.5, [1.75, 1.5, 1]),
        ([1, 2, 3], [1, 1, 1], 0.0, [1, 2, 3]),
        ([1, 9, 3], [1, 0, 1], 0.0, [10, 0, 3]),
        ([4], [1], 0.5, [4]),
        ([4], [0], 0.5, [0]),
        ([1, NAN, 1], [1, 0, 1], 0.5, [1.5, 0, 1]),
    ],
)
@pytest.mark.parametrize("mask_dtype", [torch.bool, torch.int64, torch.float32])
def test_returns_to_go(rewards, mask, gamma, expected, mask_dtype):
    check(returns_to_go(tensor(rewards), torch.tensor([mask]).to(mask_dtype), gamma=gamma), [expected])


def test_returns_to_go_stays_accurate_over_65536_tokens():
    length = 65536
    ones = torch.ones(1, length)
    steps_left = torch.arange(length, 0, -1, dtype=torch.float64)
    torch.testing.assert_close(returns_to_go(ones, ones, gamma=1.0)[0].double(), steps_left, rtol=1e-6, atol=0)
    for gamma in (0.9999, 0.99, 0.5):
        expected = (1 - gamma**steps_left) / (1 - gamma)
        torch.testing.assert_close(returns_to_go(ones, ones, gamma=gamma)[0].double(), expected, rtol=1e-6, atol=0)
    check(returns_to_go(ones, ones, gamma=0.0), ones)


def test_small_late_rewards_are_not_lost_next_to_large_early_ones():
    rewards = tensor([1e6, 0.0, 1e-3, 1e-4])
    check(returns_to_go(rewards, torch.ones(1, 4), gamma=1.0)[0, 2:], [1.1e-3, 1e-4], atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_results_are_at_least_fp32(dtype):
    rewards = torch.tensor([[0.25, 0.5, 3.0]], dtype=dtype)
    assert returns_to_go(rewards, torch.ones(1, 3), gamma=0.99).dtype == torch.promote_types(dtype, torch.float32)


def test_float64_discount_is_not_rounded_to_fp32():
    rewards = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    assert returns_to_go(rewards, torch.ones(1, 3), gamma=0.99)[0, 0].item() == pytest.approx(0.99**2, abs=1e-15)
