"""Long curves are drawn with fewer points, without losing their extremes."""

from __future__ import annotations

import numpy as np
import pytest

from reinforcepp_verl.report.thinning import BUCKETS, thinned, thinned_band


def test_a_short_curve_stays_as_it_is():
    steps, values = np.arange(2 * BUCKETS), np.random.default_rng(1).random(2 * BUCKETS)
    assert thinned(steps, values)[1] is values and thinned_band(steps, values, values)[1] is values


@pytest.mark.parametrize("length", [2 * BUCKETS + 1, 12_345, 100_000])
def test_a_long_curve_keeps_its_ends_and_the_extremes_of_each_piece(length):
    steps, values = np.arange(length) + 7, np.random.default_rng(1).random(length)
    kept_steps, kept = thinned(steps, values)
    assert len(kept) <= 2 * BUCKETS + 2 and (np.diff(kept_steps) > 0).all()
    assert (kept == values[kept_steps - 7]).all()
    assert (kept_steps[0], kept_steps[-1]) == (7, length + 6)
    size = -(-length // BUCKETS)
    for start in range(0, length, size):
        part = values[start : start + size]
        of_piece = kept[(kept_steps - 7 >= start) & (kept_steps - 7 < start + size)]
        assert (of_piece.min(), of_piece.max()) == (part.min(), part.max())


def test_values_that_are_not_finite_leave_a_gap_only_where_nothing_else_is():
    values = np.ones(100_000)
    values[::2] = np.nan
    values[5000:20_000] = np.inf
    _, kept = thinned(np.arange(100_000), values)
    assert np.isfinite(kept).sum() > 1000 and not np.isfinite(kept[200]) and np.isfinite(kept[-2])


def test_a_long_band_keeps_its_bounds():
    low = np.random.default_rng(1).random(100_000)
    steps, lower, upper = thinned_band(np.arange(100_000), low, low + 1)
    assert len(steps) == len(lower) == len(upper) <= BUCKETS
    assert (lower.min(), upper.max()) == (low.min(), low.max() + 1)
