"""Which prompts, answers and tokens are kept."""

from __future__ import annotations

import math

import pytest

from reinforcepp_verl.training_samples.selection import (
    Candidate,
    Group,
    choose_answers,
    choose_groups,
    evenly_spread,
    fair_limit,
    kept_ends,
)


def group(uid: str, *rewards: float) -> Group:
    return Group(uid, [Candidate(number, reward, (f"{uid}_{number}_0",)) for number, reward in enumerate(rewards)])


def test_the_least_and_the_most_certain_prompt_are_kept():
    groups = [
        group("right", 1, 1),
        group("half", 0, 1),
        group("wrong", 0, 0),
        group("wide", 0, 5),
        group("near", 0, 0.5),
    ]
    assert [each.uid for each in choose_groups(groups, 9)] == ["wide", "half", "near", "wrong", "right"]
    assert [each.uid for each in choose_groups(groups, 3)] == ["wide", "near", "right"]
    assert [each.uid for each in choose_groups(groups, 1)] == ["wide"]


def test_equal_prompts_stay_in_the_order_of_the_batch_and_nan_does_not_count():
    groups = [group("b", 1, 0), group("a", 0, 1), group("broken", math.nan), group("c", math.nan, 0, 1)]
    assert [each.uid for each in choose_groups(groups, 4)] == ["b", "a", "c", "broken"]
    assert groups[3].mean == 0.5 and groups[3].std == 0.5


def test_the_best_and_the_worst_answer_are_kept_and_nan_is_last():
    answers = choose_answers(group("a", 0.5, 1, math.nan, 0, 1), 9)
    assert [answer.number for answer in answers] == [1, 4, 0, 3, 2]
    assert [answer.number for answer in choose_answers(group("a", 3, 1, 2, 5), 2)] == [3, 1]


@pytest.mark.parametrize(
    ("count", "wanted", "places"),
    [(0, 4, []), (3, 4, [0, 1, 2]), (10, 1, [0]), (10, 2, [0, 9]), (24, 4, [0, 8, 15, 23]), (5, 0, [])],
)
def test_places_are_spread_evenly(count, wanted, places):
    assert evenly_spread(count, wanted) == places


@pytest.mark.parametrize(
    ("lengths", "budget", "limit"),
    [([5, 5], 100, 5), ([10, 10, 10], 15, 5), ([2, 100, 100], 42, 20), ([], 9, 2), ([50] * 10, 3, 2)],
)
def test_short_texts_leave_their_share_to_long_ones(lengths, budget, limit):
    assert fair_limit(lengths, budget) == limit


def test_the_middle_of_a_long_text_is_left_out():
    assert kept_ends(5, 5) == (5, 0)
    assert kept_ends(6, 5) == (3, 2)
