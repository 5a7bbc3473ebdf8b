"""Pooling of means and variances, and the state that a checkpoint keeps."""

import json

import pytest
import torch

from reinforcepp_verl.algorithm.moments import Memory, Moments


def moments_of(values):
    return Moments.from_values(values, torch.ones_like(values))


@pytest.mark.parametrize("cut", [0, 1, 5, 10])
def test_parts_merge_into_the_whole(cut):
    values = torch.randn(10, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1e4
    merged, whole = moments_of(values[:cut]).merge(moments_of(values[cut:])), moments_of(values)
    assert merged.count == whole.count == 10
    assert merged.mean == pytest.approx(values.mean().item(), rel=1e-14)
    for unbiased in (False, True):
        expected = values.var(correction=int(unbiased)).item()
        assert merged.variance(unbiased=unbiased) == pytest.approx(expected, rel=1e-9)


def test_rows_pool_like_their_tokens_with_the_given_weights():
    rows = [torch.tensor([1.0, 2.0, 6.0]).double(), torch.tensor([4.0]).double()]
    count = torch.tensor([3.0, 1.0]).double()
    mean = torch.stack([row.mean() for row in rows])
    deviations = torch.stack([(row - row.mean()).square().sum() for row in rows])
    by_token = Moments.from_rows(count, mean, deviations, torch.ones(2).double())
    assert (by_token.count, by_token.mean, by_token.variance(unbiased=False)) == (4, 3.25, pytest.approx(3.6875))
    by_sample = Moments.from_rows(count, mean, deviations, 1 / count)
    # Each row weighs 1: (1+2+6)/3 = 3 and 4; the mean square about 3.5 is (6.25+2.25+6.25)/3 and 0.25.
    assert (by_sample.count, by_sample.mean) == (2, 3.5)
    assert by_sample.variance(unbiased=False) == pytest.approx((14.75 / 3 + 0.25) / 2)


def test_an_empty_or_single_population_has_variance_zero():
    for unbiased in (False, True):
        assert Moments().variance(unbiased=unbiased) == 0
        assert Moments(1.0, 7.0, 0.0).variance(unbiased=unbiased) == 0
    assert Moments().merge(Moments(2.0, 3.0, 1.0)) == Moments(2.0, 3.0, 1.0)
    assert moments_of(torch.zeros(0)) == Moments()


def test_the_window_pools_the_last_calls_only():
    memory = Memory()
    parts = [Moments(2.0, float(i), 0.5) for i in range(4)]
    for i, part in enumerate(parts):
        pooled = memory.pool(part, 3)
        expected = Moments()
        for kept in parts[max(0, i - 2) : i + 1]:
            expected = expected.merge(kept)
        assert pooled == expected
    assert memory.window == parts[1:]


def test_memory_survives_json():
    memory = Memory(Moments(3.0, 0.1, 0.2), Moments(5.0, 1 / 3, 0.7), [Moments(1.0, 2.0, 3.0)])
    assert Memory.from_dict(json.loads(json.dumps(memory.as_dict()))) == memory
    assert Memory.from_dict(json.loads(json.dumps(Memory().as_dict()))) == Memory()
