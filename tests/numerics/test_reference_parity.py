"""The vectorised formulas against loops that follow the paper token by token, in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reinforcepp_verl.advantages import reinforcepp, reinforcepp_baseline
from reinforcepp_verl.losses import clipped_surrogate

EXACT = {"atol": 1e-10, "rtol": 1e-10}


def loop_rewards(rewards, mask):
    """Move trailing rewards and drop the others on masked tokens."""
    kept = [[0.0] * len(row) for row in rewards]
    for row, valid, out in zip(rewards, mask, kept, strict=True):
        last = max((t for t, v in enumerate(valid) if v), default=None)
        for t, reward in enumerate(row):
            if last is not None and (valid[t] or t > last):
                out[min(t, last)] += reward
    return kept


def loop_whiten(values, mask, floor, unbiased):
    tokens = [v for row, valid in zip(values, mask, strict=True) for v, m in zip(row, valid, strict=True) if m]
    mean = math.fsum(tokens) / max(len(tokens), 1)
    variance = math.fsum((x - mean) ** 2 for x in tokens) / max(len(tokens) - unbiased, 1)
    scale = 1 / math.sqrt(max(variance, floor))
    return [
        [(v - mean) * scale if m else 0.0 for v, m in zip(row, valid, strict=True)]
        for row, valid in zip(values, mask, strict=True)
    ]


def loop_reinforcepp(rewards, mask, gamma, floor, unbiased):
    returns = [[0.0] * len(row) for row in rewards]
    for row, valid, out in zip(loop_rewards(rewards, mask), mask, returns, strict=True):
        running = 0.0
        for t in reversed(range(len(row))):
            if valid[t]:
                running = out[t] = row[t] + gamma * running
    return loop_whiten(returns, mask, floor, unbiased), returns


def loop_baseline(rewards, mask, groups, floor, unbiased):
    scores = [math.fsum(row) for row in loop_rewards(rewards, mask)]
    returns = [[0.0] * len(row) for row in rewards]
    for i, valid in enumerate(mask):
        peers = [scores[j] for j in range(len(scores)) if groups[j] == groups[i] and any(mask[j])]
        for t in range(len(valid)):
            returns[i][t] = scores[i] - math.fsum(peers) / len(peers) if valid[t] else 0.0
    return loop_whiten(returns, mask, floor, unbiased), returns


@st.composite
def batches(draw):
    rows, length = draw(st.integers(1, 6)), draw(st.integers(1, 19))
    finite = st.floats(-10, 10, allow_subnormal=False)
    rewards = draw(st.lists(st.lists(finite, min_size=length, max_size=length), min_size=rows, max_size=rows))
    mask = draw(st.lists(st.lists(st.booleans(), min_size=length, max_size=length), min_size=rows, max_size=rows))
    groups = draw(st.lists(st.integers(-3, 3), min_size=rows, max_size=rows))
    return rewards, mask, groups


def check(actual, expected):
    for tensor, reference in zip(actual, expected, strict=True):
        torch.testing.assert_close(tensor, torch.tensor(reference, dtype=torch.float64), **EXACT)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(batches(), st.sampled_from([0.0, 0.5, 0.99, 1.0]), st.booleans())
def test_estimators_equal_the_loops(batch, gamma, unbiased):
    rewards, mask, groups = batch
    # A floor well above rounding noise, which a floor of 1e-8 would amplify by 1e4 when all returns are equal.
    floor = 1e-2
    tensors = torch.tensor(rewards, dtype=torch.float64), torch.tensor(mask)
    options = {"variance_floor": floor, "unbiased_variance": unbiased}
    check(reinforcepp(*tensors, gamma=gamma, **options), loop_reinforcepp(rewards, mask, gamma, floor, unbiased))
    check(
        reinforcepp_baseline(*tensors, group_index=torch.tensor(groups), **options),
        loop_baseline(rewards, mask, groups, floor, unbiased),
    )


@pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 257])
def test_doubling_scan_at_awkward_lengths(length):
    generator = torch.Generator().manual_seed(length)
    rewards = torch.randn(5, length, generator=generator, dtype=torch.float64)
    mask = torch.rand(5, length, generator=generator) > 0.3
    actual = reinforcepp(rewards, mask, gamma=0.97, variance_floor=1e-8, unbiased_variance=True)
    check(actual, loop_reinforcepp(rewards.tolist(), mask.tolist(), 0.97, 1e-8, True))


def test_float32_is_close_to_the_float64_loop():
    generator = torch.Generator().manual_seed(0)
    rewards = torch.randn(8, 200, generator=generator)
    mask = torch.rand(8, 200, generator=generator) > 0.3
    groups = [0, 0, 1, 1, 1, 2, 2, 2]
    options = {"variance_floor": 1e-8, "unbiased_variance": False}
    pairs = [
        (
            reinforcepp(rewards, mask, gamma=0.99, **options),
            loop_reinforcepp(rewards.tolist(), mask.tolist(), 0.99, 1e-8, False),
        ),
        (
            reinforcepp_baseline(rewards, mask, group_index=torch.tensor(groups), **options),
            loop_baseline(rewards.tolist(), mask.tolist(), groups, 1e-8, False),
        ),
    ]
    for actual, expected in pairs:
        for tensor, reference in zip(actual, expected, strict=True):
            torch.testing.assert_close(tensor, torch.tensor(reference), atol=2e-5, rtol=1e-5)


def loop_surrogate(new, old, advantage, low, high, dual):
    ratio = math.exp(max(-20.0, min(20.0, new - old)))
    loss = max(-advantage * ratio, -advantage * max(1 - low, min(1 + high, ratio)))
    return min(loss, -advantage * dual) if advantage < 0 else loss


@pytest.mark.parametrize("dual", [None, 3.0])
def test_loss_equals_the_loop_and_autograd_equals_finite_differences(dual):
    generator = torch.Generator().manual_seed(1)
    new, old, advantages = torch.randn(3, 6, 40, generator=generator, dtype=torch.float64)
    options = {"advantages": advantages, "clip_low": 0.2, "clip_high": 0.28, "dual_clip": dual}
    leaf = new.clone().requires_grad_()
    loss = clipped_surrogate(leaf, old, **options).loss
    cap = math.inf if dual is None else dual
    expected = [
        loop_surrogate(*token, 0.2, 0.28, cap)
        for token in zip(new.flatten().tolist(), old.flatten().tolist(), advantages.flatten().tolist(), strict=True)
    ]
    torch.testing.assert_close(loss.flatten(), torch.tensor(expected, dtype=torch.float64), **EXACT)
    loss.sum().backward()
    step = 1e-6
    above, below = (clipped_surrogate(new + h, old, **options).loss for h in (step, -step))
    torch.testing.assert_close(leaf.grad, (above - below) / (2 * step), atol=1e-6, rtol=1e-6)
