"""The median of the time of all steps so far."""

from __future__ import annotations

import statistics

from hypothesis import given
from hypothesis import strategies as st

from reinforcepp_verl.runs.run_summary import Summary
from reinforcepp_verl.runs.running_median import RunningMedian


@given(st.lists(st.floats(min_value=-1e6, max_value=1e6)))
def test_it_is_the_median_after_every_number(numbers):
    median = RunningMedian()
    assert median.value is None
    for count, number in enumerate(numbers, start=1):
        median.add(number)
        assert median.value == statistics.median(numbers[:count])


def test_a_step_whose_time_was_not_a_number_is_left_out():
    summary = Summary(seed=1)
    for step, seconds in enumerate((2.0, None, 4.0)):
        summary.add({"step": step, "timing_s/step": seconds})
    assert (summary.steps, summary.step_seconds_median) == (2, 3.0)
