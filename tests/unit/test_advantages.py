"""Hand-computed cases for reinforcepp_verl.advantages."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from reinforcepp_verl.advantages import (
    group_mean_baseline,
    masked_whiten,
    reinforcepp,
    reinforcepp_baseline,
    returns_to_go,
    rewards_on_valid_tokens,
)

REPOSITORY = Path(__file__).parents[2]
DEFAULTS = {"variance_floor": 1e-8, "unbiased_variance": False}
NAN, INF = float("nan"), float("inf")

# Wolfe's REINFORCE example: outcome scores 1 and 0.5 on the last token, minus 0.1 times the token KL.
WOLFE_KL = torch.tensor([[-1.0, 0.1, -0.3], [-0.5, 0.2, -0.2]])
WOLFE_REWARDS = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 0.5]]) - 0.1 * WOLFE_KL


def tensor(*rows):
    return torch.tensor(rows, dtype=torch.float32)


def check(actual, expected, atol=1e-6):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), atol=atol, rtol=0)


@pytest.mark.parametrize(
    ("rewards", "mask", "expected"),
    [
        ([0, 0, 1], [1, 1, 1], [0, 0, 1]),
        ([0, 0, 1], [1, 1, 0], [0, 1, 0]),  # score on a masked last position (verl loses it)
        ([0, 2, 0, 3, 1], [1, 1, 0, 0, 0], [0, 6, 0, 0, 0]),
        ([0, 7, 2, 0, 1], [1, 0, 1, 0, 0], [0, 0, 3, 0, 0]),  # the 7 lies in a hole
        ([1, 2, 3], [0, 0, 0], [0, 0, 0]),
        ([5, 0, 1], [0, 0, 1], [0, 0, 1]),
    ],
)
def test_trailing_rewards_move_to_the_last_valid_token(rewards, mask, expected):
    check(rewards_on_valid_tokens(tensor(rewards), tensor(mask)), [expected])


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_non_finite_masked_values_reach_no_output(bad):
    rewards = tensor([1.0, bad, 2.0, bad, 0.5], [bad, bad, bad, bad, bad], [0.0, 0.0, 0.0, 0.0, 1.0])
    mask = torch.tensor([[1, 0, 1, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    clean = torch.where(rewards.isfinite(), rewards, 0.0)
    group_index = torch.tensor([0, 0, 0])
    check(returns_to_go(rewards, mask, gamma=0.9), returns_to_go(clean, mask, gamma=0.9))
    whiten = {"variance_floor": 1e-8, "unbiased": True}
    check(masked_whiten(rewards, mask, **whiten), masked_whiten(clean, mask, **whiten))
    for actual, expected in zip(
        reinforcepp(rewards, mask, gamma=0.9, **DEFAULTS)
        + reinforcepp_baseline(rewards, mask, group_index=group_index, **DEFAULTS),
        reinforcepp(clean, mask, gamma=0.9, **DEFAULTS)
        + reinforcepp_baseline(clean, mask, group_index=group_index, **DEFAULTS),
        strict=True,
    ):
        check(actual, expected)


@pytest.mark.parametrize(
    ("rewards", "mask", "gamma", "expected"),
    [
        ([0, 0, 0, 0, 0, 1], [1, 1, 0, 0, 1, 1], 1.0, [1, 1, 0, 0, 1, 1]),  # verl's multi-turn test
        ([0, 0, 0, 0, 2], [1, 1, 0, 0, 1], 0.5, [0.5, 1, 0, 0, 2]),
        ([1, 1, 1], [1, 1, 1], 0.5, [1.75, 1.5, 1]),
        ([1, 2, 3], [1, 1, 1], 0.0, [1, 2, 3]),
        ([1, 9, 3], [1, 0, 1], 0.0, [1, 0, 3]),
        ([4], [1], 0.5, [4]),
        ([4], [0], 0.5, [0]),
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
    torch.testing.assert_close(
        returns_to_go(ones, ones, gamma=0.99)[0].double(), (1 - 0.99**steps_left) / 0.01, rtol=1e-5, atol=0
    )
    check(returns_to_go(ones, ones, gamma=0.0), ones)


def test_whiten_uses_the_chosen_variance_and_zeroes_masked_tokens():
    values, mask = tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([[1, 1, 1, 0]])
    check(masked_whiten(values, mask, variance_floor=1e-8, unbiased=False), [[-(1.5**0.5), 0, 1.5**0.5, 0]])
    check(masked_whiten(values, mask, variance_floor=1e-8, unbiased=True), [[-1, 0, 1, 0]])
    check(masked_whiten(values, mask, variance_floor=100.0, unbiased=True), [[-0.1, 0, 0.1, 0]])


@pytest.mark.parametrize("unbiased", [False, True])
def test_whiten_with_no_one_and_two_valid_tokens(unbiased):
    values = tensor([5.0, 3.0, NAN])
    for mask in ([0, 0, 0], [1, 0, 0], [0, 1, 0]):
        check(masked_whiten(values, tensor(mask), variance_floor=1e-8, unbiased=unbiased), [[0, 0, 0]])
    size = 0.5**0.5 if unbiased else 1.0
    check(masked_whiten(values, tensor([1, 1, 0]), variance_floor=1e-8, unbiased=unbiased), [[size, -size, 0]])


@pytest.mark.parametrize("reward", [0.1, 100.0, -1e6])
def test_equal_rewards_give_exactly_zero(reward):
    rewards, mask = torch.full((7, 1), reward), torch.ones(7, 13)
    padded = torch.nn.functional.pad(rewards, (12, 0))
    group_index = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    assert not reinforcepp(padded, mask, gamma=1.0, **DEFAULTS)[0].any()
    assert not reinforcepp_baseline(padded, mask, group_index=group_index, **DEFAULTS)[0].any()


def test_group_mean_skips_rejected_rows_and_zeroes_single_ones():
    scores = tensor(1.0, 3.0, 100.0, 8.0, NAN, 7.0)
    group_index = torch.tensor([5, 5, 5, 2, 2, 9])
    valid_rows = torch.tensor([True, True, False, True, False, True])
    check(group_mean_baseline(scores, group_index, valid_rows=valid_rows), [-1, 1, 0, 0, 0, 0])


def test_wolfe_example():
    mask = torch.ones(2, 3)
    advantages, returns = reinforcepp(WOLFE_REWARDS, mask, gamma=1.0, **DEFAULTS)
    check(returns, [[1.12, 1.02, 1.03], [0.55, 0.50, 0.52]])
    check(advantages, [[1.22700, 0.85518, 0.89236], [-0.89236, -1.07827, -1.00391]], atol=1e-5)
    advantages, _ = reinforcepp(WOLFE_REWARDS, mask, gamma=1.0, variance_floor=1e-8, unbiased_variance=True)
    check(advantages, [[1.12009, 0.78067, 0.81461], [-0.81461, -0.98432, -0.91644]], atol=1e-5)
    advantages, returns = reinforcepp_baseline(
        WOLFE_REWARDS, mask, group_index=torch.tensor([0, 0]), variance_floor=1e-8, unbiased_variance=True
    )
    check(returns, [[0.285] * 3, [-0.285] * 3])
    check(advantages, [[0.91287] * 3, [-0.91287] * 3], atol=1e-5)


def test_baseline_with_holes_rejected_row_and_trailing_score():
    rewards = tensor([0, 9, 0, 1], [0, 0, 0, 0], [0, 0, 0, 50], [2, 0, 0, 0])
    mask = torch.tensor([[1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]])
    group_index = torch.tensor([0, 0, 0, 1])
    advantages, returns = reinforcepp_baseline(rewards, mask, group_index=group_index, **DEFAULTS)
    check(returns, [[0.5, 0, 0.5, 0], [-0.5, -0.5, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    unit = 1.25**0.5  # five valid tokens: 0.5 0.5 -0.5 -0.5 0
    check(advantages, [[unit, 0, unit, 0], [-unit, -unit, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_statistics_use_at_least_fp32_and_inputs_stay_unchanged(dtype):
    rewards = torch.tensor([[0.25, 0.0, 3.0], [0.0, 1.5, 0.5]], dtype=dtype)
    mask, group_index = torch.tensor([[1, 1, 0], [1, 0, 1]]), torch.tensor([0, 0])
    before = [x.clone() for x in (rewards, mask, group_index)]
    expected_dtype = torch.promote_types(dtype, torch.float32)
    outputs = reinforcepp(rewards, mask, gamma=0.99, **DEFAULTS)
    outputs += reinforcepp_baseline(rewards, mask, group_index=group_index, **DEFAULTS)
    exact = reinforcepp(rewards.double(), mask, gamma=0.99, **DEFAULTS)
    exact += reinforcepp_baseline(rewards.double(), mask, group_index=group_index, **DEFAULTS)
    for output, reference in zip(outputs, exact, strict=True):
        assert output.dtype == expected_dtype and output.shape == rewards.shape
        check(output.double(), reference)
    assert all(torch.equal(x, y) for x, y in zip(before, (rewards, mask, group_index), strict=True))


def test_float64_discount_is_not_rounded_to_fp32():
    rewards = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    assert returns_to_go(rewards, torch.ones(1, 3), gamma=0.99)[0, 0].item() == pytest.approx(0.99**2, abs=1e-15)


def test_pure_modules_import_no_framework():
    code = (
        "import sys, reinforcepp_verl.advantages, reinforcepp_verl.losses\n"
        "print([m for m in ('verl', 'ray', 'omegaconf', 'hydra', 'transformers') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
