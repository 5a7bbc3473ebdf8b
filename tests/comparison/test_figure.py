"""What the figure of a suite draws."""

from __future__ import annotations

import numpy as np
import pandas as pd

from reinforcepp_verl.comparison.figure import _means
from reinforcepp_verl.comparison.outcome import _spent_until


def by_seed(index: list[int], **seeds: list[float]) -> pd.DataFrame:
    return pd.DataFrame({int(name[1:]): values for name, values in seeds.items()}, index=index)


def test_curves_against_what_is_spent_begin_with_nothing_spent():
    accuracy = by_seed([0, 2, 4], s1=[0.4, 0.6, 0.8], s2=[0.2, 0.4, 0.6])
    seconds = by_seed([1, 2, 3, 4], s1=[1.0, 2.0, 3.0, 4.0], s2=[3.0, 6.0, 9.0, 12.0])
    x, y = _means(seconds, accuracy)
    np.testing.assert_allclose(x, [0.0, 4.0, 8.0])
    np.testing.assert_allclose(y, [0.3, 0.5, 0.7])


def test_a_method_without_a_kl_has_no_such_curve():
    x, y = _means(pd.DataFrame(), by_seed([0, 2], s1=[0.4, 0.6]))
    assert len(x) == len(y) == 0


def test_what_is_spent_counts_the_steps_up_to_the_validation():
    per_step = by_seed([1, 2, 3, 4], s1=[1.0, 2.0, 4.0, 8.0], s2=[1.0, 2.0, 4.0, 8.0], s3=[1.0, 1.0, 1.0, 1.0])
    is_there = by_seed([0, 2, 4], s1=[False, True, True], s2=[True, True, True], s3=[False, False, True]).astype(bool)
    assert _spent_until(is_there[[1]], per_step) == 3.0
    assert _spent_until(is_there[[2]], per_step) == 0.0
    assert _spent_until(is_there, per_step) == 3.0
    never = is_there & False
    assert _spent_until(never, per_step) is None
    # Seeds whose time was not measured do not count.
    assert _spent_until(is_there, per_step[[3]]) == 4.0 and _spent_until(is_there, per_step[[]]) is None
