"""The parts of the page that compute: thinned lines, time by phase, distributions, configurations, chosen steps."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from reinforcepp_verl.html_report import charts
from reinforcepp_verl.html_report.charts import line
from reinforcepp_verl.html_report.chosen_steps import spread
from reinforcepp_verl.html_report.configurations import compare
from reinforcepp_verl.html_report.histograms import histogram
from reinforcepp_verl.html_report.page_values import as_json, for_page
from reinforcepp_verl.html_report.phases import step_time
from reinforcepp_verl.report.history import History


def history(**series: list[float]) -> History:
    names = {name: f"timing_s/{name}" for name in series}
    arrays = {names[name]: (np.arange(1, len(each) + 1), np.array(each)) for name, each in series.items()}
    return History(Path("run"), "mine", 1, arrays)


def test_a_long_line_is_means_with_the_lowest_and_the_highest(monkeypatch):
    monkeypatch.setattr(charts, "PIECES", 3)
    shown = line("a", 0, np.arange(1, 8), np.array([1.0, 2.0, 9.0, math.nan, 5.0, math.nan, 7.0]))
    # Pieces of three steps: (1, 2, 9), (nan, 5, nan), (7).
    assert shown["x"].tolist() == [2, 5, 7] and shown["piece"] == 3
    assert shown["y"].tolist() == [4.0, 5.0, 7.0]
    assert (shown["low"].tolist(), shown["high"].tolist()) == ([1.0, 5.0, 7.0], [9.0, 5.0, 7.0])


def test_a_long_line_without_a_value_in_a_piece_has_a_gap(monkeypatch):
    monkeypatch.setattr(charts, "PIECES", 2)
    shown = line("a", 0, np.arange(4), np.array([math.nan, math.inf, 1.0, 3.0]))
    assert for_page(shown["y"]) == [None, 2.0] and for_page(shown["low"]) == [None, 1.0]


def test_a_band_of_a_long_line_is_the_widest_of_its_pieces(monkeypatch):
    monkeypatch.setattr(charts, "PIECES", 1)
    bounds = np.array([0.0, 1.0]), np.array([4.0, 3.0])
    shown = line("a", 0, np.arange(2), np.array([2.0, 2.0]), bounds)
    assert (shown["y"].tolist(), shown["low"].tolist(), shown["high"].tolist()) == ([2.0], [0.0], [4.0])


def test_phases_add_up_to_the_step_and_a_validation_is_not_one():
    run = history(step=[10.0, 20.0], gen=[6.0, 8.0], testing=[5.0, 7.0])
    run.series["timing_s/save_checkpoint"] = (np.array([2]), np.array([4.0]))
    found = step_time(run)
    assert found.names == ["generation", "checkpoint", "everything else"]
    assert found.seconds.tolist() == [[6.0, 8.0], [0.0, 4.0], [4.0, 8.0]]
    assert [(phase.median_s, round(phase.share, 3)) for phase in found.table] == [
        (7.0, 0.467),
        (4.0, 0.133),
        (6.0, 0.4),
    ]
    assert found.validation_s == 6.0


def test_time_of_a_run_without_steps():
    assert step_time(history()) is None and step_time(history(step=[math.nan])) is None


def test_the_columns_of_a_long_run_are_means():
    shown = step_time(history(step=[1.0, 3.0] * 120)).chart
    assert len(shown["x"]) == 120 and set(shown["y"][0].tolist()) == {2.0} and shown["last"] == 240


def test_few_values_have_a_bin_each_and_shares_add_up_to_one():
    found = histogram("Reward", {1: [0.0, 1.0, 1.0, math.nan], 2: [0.5]})
    assert np.allclose(found["edges"], [-0.25, 0.25, 0.75, 1.25])
    assert np.allclose(found["shares"], [[1 / 3, 0, 2 / 3], [0, 1, 0]])
    assert found["means"] == pytest.approx([2 / 3, 0.5])
    assert histogram("Reward", {1: [math.nan]}) is None


def test_one_value_has_one_bin():
    assert histogram("Length", {1: [7, 7]})["shares"][0].tolist() == [1.0]


def test_many_values_have_equal_bins():
    found = histogram("Length", {1: list(range(101))})
    assert len(found["edges"]) == 25 and found["edges"][0] == 0 and found["edges"][-1] == 100


def test_configurations_are_compared_key_by_key():
    compared = compare([{"a": 1, "b": None, "c": "x"}, {"a": 1, "b": [1, 2]}])
    assert compared.same == {"a": "1"}
    assert compared.different == {"b": ["null", "[1, 2]"], "c": ["x", "—"]}


def test_steps_are_spread_with_both_ends():
    assert spread([1, 2, 3], 4) == [1, 2, 3]
    assert spread(list(range(0, 101, 10)), 3) == [0, 50, 100]
    assert spread([], 3) == []


def test_values_of_the_page_are_json_that_no_text_ends():
    text = as_json(
        {"a": [np.float64(1 / 3), np.int64(2), math.nan, True], "b": np.array([1e-9]), "c": "</script>\x07é"}
    )
    assert text == '{"a":[0.33333,2,null,true],"b":[1e-9],"c":"\\u003c/script\\u003e\\\\x07é"}'
