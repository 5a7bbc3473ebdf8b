"""pass@k, majority@k, mean@k and the bootstraps: closed forms, brute force over all subsets, and simulated truth."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from reinforcepp_verl.evaluation.estimates import (
    bootstrap,
    majority_at_k,
    mean_at_k,
    paired_bootstrap,
    pass_at_k,
)

RIGHT, WRONG = True, False


def brute_pass(correct, k):
    subsets = list(combinations(correct, k))
    return sum(any(subset) for subset in subsets) / len(subsets)


def brute_majority(correct, answers, k):
    shares = {}
    for answer in set(answers):
        grades = [right for right, given in zip(correct, answers, strict=True) if given == answer]
        shares[answer] = sum(grades) / len(grades)
    won = []
    for subset in combinations(answers, k):
        votes = Counter(answer for answer in subset if answer)
        winners = [answer for answer, count in votes.items() if count == max(votes.values())]
        won.append(np.mean([shares[answer] for answer in winners]) if winners else 0.0)
    return np.mean(won)


def random_questions(seed, count=12, most=9):
    """Return correct, answers with ragged samples; "" is no answer, "r" and "R" are right, "m" is graded both ways."""
    generator = np.random.default_rng(seed)
    answers = [
        list(generator.choice(["r", "R", "a", "b", "m", ""], size=generator.integers(1, most))) for _ in range(count)
    ]
    correct = [[a in ("r", "R") or (a == "m" and bool(generator.integers(2))) for a in row] for row in answers]
    return correct, answers


def test_pass_at_k_by_hand():
    # 4 samples, 1 right: the right one is among k of them with chance k/4; 2 right: 1 - C(2,2)/C(4,2) = 5/6.
    assert pass_at_k([[RIGHT, WRONG, WRONG, WRONG]], 2)[0] == pytest.approx(0.5)
    assert pass_at_k([[RIGHT, RIGHT, WRONG, WRONG]], 2)[0] == pytest.approx(5 / 6)
    assert pass_at_k([[RIGHT, RIGHT, WRONG, WRONG]], 3)[0] == 1.0


@pytest.mark.parametrize("n", [1, 2, 5, 16, 64])
def test_pass_at_k_is_the_closed_form(n):
    for c in range(n + 1):
        for k in range(1, n + 1):
            expected = 1 - math.comb(n - c, k) / math.comb(n, k)
            assert pass_at_k([[RIGHT] * c + [WRONG] * (n - c)], k)[0] == pytest.approx(expected, abs=1e-12)


def test_pass_at_k_keeps_small_and_large_cases_exact():
    n = 20_000
    assert pass_at_k([[RIGHT] + [WRONG] * (n - 1)], 100)[0] == pytest.approx(100 / n, rel=1e-9)
    assert pass_at_k([[WRONG] * n], n)[0] == 0.0
    assert pass_at_k([[RIGHT] * n], 1)[0] == 1.0


def test_mean_is_pass_at_1():
    correct, _ = random_questions(3)
    assert mean_at_k(correct) == pytest.approx(pass_at_k(correct, 1))
    assert mean_at_k([[RIGHT, WRONG], [RIGHT]]).tolist() == [0.5, 1.0]


@pytest.mark.parametrize("seed", range(20))
def test_ragged_questions_against_all_subsets(seed):
    correct, answers = random_questions(seed)
    for k in range(1, 9):
        long_enough = [i for i, row in enumerate(correct) if len(row) >= k]
        some, given = [correct[i] for i in long_enough], [answers[i] for i in long_enough]
        assert pass_at_k(some, k) == pytest.approx([brute_pass(row, k) for row in some])
        expected = [brute_majority(row, said, k) for row, said in zip(some, given, strict=True)]
        assert majority_at_k(some, given, k) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answers", "right", "k", "expected"),
    [
        ("aab", "a", 3, 1.0),
        ("aab", "b", 3, 0.0),
        ("ab", "a", 2, 0.5),  # a tie is shared
        ("abc", "b", 3, 1 / 3),
        ("aab", "a", 2, 1 / 3 + 2 / 3 / 2),  # {a,a} wins; {a,b} twice, shared
        ("aabb", "ab", 4, 1.0),  # two spellings of the right answer
        ("aabbb", "a", 1, 0.4),
    ],
)
def test_majority_by_hand(answers, right, k, expected):
    correct = [answer in right for answer in answers]
    assert majority_at_k([correct], [list(answers)], k)[0] == pytest.approx(expected)


def test_a_sample_without_an_answer_has_no_vote():
    assert majority_at_k([[RIGHT, WRONG, WRONG]], [["a", "", ""]], 3)[0] == 1.0
    assert majority_at_k([[WRONG, WRONG]], [["", ""]], 2)[0] == 0.0
    assert majority_at_k([[RIGHT, WRONG, WRONG]], [["a", "", ""]], 2)[0] == pytest.approx(2 / 3)


def test_majority_amplifies_what_is_frequent_and_survives_many_samples():
    n = 500
    answers = ["a"] * 300 + ["b"] * 200
    correct = [answer == "a" for answer in answers]
    few, many, all_of_them = (majority_at_k([correct], [answers], k)[0] for k in (3, 201, n))
    assert few == pytest.approx(0.6**3 + 3 * 0.6**2 * 0.4, abs=2e-3)
    assert 0.999 < many < 1.0 and all_of_them == 1.0


@pytest.mark.parametrize("correct_all", [RIGHT, WRONG])
def test_all_right_and_all_wrong(correct_all):
    correct, answers = [[correct_all] * 4, [correct_all] * 3], [["a"] * 4, ["a", "b", "c"]]
    for k in (1, 2, 3):
        assert pass_at_k(correct, k).tolist() == [correct_all] * 2
        assert majority_at_k(correct, answers, k) == pytest.approx([float(correct_all)] * 2)


@pytest.mark.parametrize("k", [0, -1, 3])
def test_k_that_is_not_possible_is_refused(k):
    with pytest.raises(ValueError, match=rf"k={k} with 2 samples"):
        pass_at_k([[RIGHT, RIGHT]], k)
    with pytest.raises(ValueError, match=rf"k={k} with 2 samples"):
        majority_at_k([[RIGHT, RIGHT]], [["a", "a"]], k)


def test_order_of_samples_and_questions_does_not_matter():
    correct, answers = random_questions(5, count=30, most=5)
    generator = np.random.default_rng(0)
    rows = generator.permutation(len(correct))
    places = [generator.permutation(len(correct[i])) for i in rows]
    mixed = [[correct[i][j] for j in order] for i, order in zip(rows, places, strict=True)]
    given = [[answers[i][j] for j in order] for i, order in zip(rows, places, strict=True)]
    assert np.array_equal(pass_at_k(mixed, 1), pass_at_k(correct, 1)[rows])
    assert np.array_equal(majority_at_k(mixed, given, 1), majority_at_k(correct, answers, 1)[rows])
    first, second = (bootstrap(mean_at_k(each), resamples=500, seed=1) for each in (correct, mixed))
    assert (first.low, first.high) == (second.low, second.high) and first.value == pytest.approx(second.value)


def test_bootstrap_is_seeded_and_holds_the_mean():
    values = np.random.default_rng(0).random(50)
    first, again, other = (bootstrap(values, resamples=1000, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert first.value == pytest.approx(values.mean())
    assert first.low < first.value < first.high


def test_bootstrap_interval_is_as_wide_as_the_standard_error_says():
    values = np.random.default_rng(1).random(400)
    interval = bootstrap(values, resamples=4000, seed=1)
    width = 2 * 1.96 * values.std() / math.sqrt(len(values))
    assert interval.high - interval.low == pytest.approx(width, rel=0.06)


def test_bootstrap_in_blocks_is_like_bootstrap_at_once(monkeypatch):
    values = np.random.default_rng(2).random(30)
    at_once = bootstrap(values, resamples=101, seed=3)
    monkeypatch.setattr("reinforcepp_verl.evaluation.estimates.INDICES_AT_A_TIME", 200)
    assert bootstrap(values, resamples=101, seed=3) == at_once


def test_bootstrap_interval_covers_the_truth_as_often_as_it_says():
    """Questions of random difficulty, 4 samples each: the interval must cover the mean over all such questions."""
    generator = np.random.default_rng(7)
    trials, covered = 400, 0
    for trial in range(trials):
        chances = generator.beta(2, 3, size=60)
        values = generator.binomial(4, chances) / 4
        interval = bootstrap(values, resamples=400, seed=trial)
        covered += interval.low <= 0.4 <= interval.high
    assert 0.91 <= covered / trials <= 0.98


@pytest.mark.parametrize(("count", "resamples"), [(0, 10), (3, 0)])
def test_bootstrap_of_nothing_is_refused(count, resamples):
    with pytest.raises(ValueError, match="at least one of each"):
        bootstrap(np.zeros(count), resamples=resamples, seed=1)


def pairs(gain, generator, questions=100):
    """Return values of two runs on the same questions; the difficulty of a question is the same for both."""
    chances = generator.uniform(0.1, 0.8, size=questions)
    return generator.binomial(8, chances) / 8, generator.binomial(8, chances + gain) / 8


def test_paired_bootstrap_detects_a_real_difference():
    before, after = pairs(0.08, np.random.default_rng(1))
    difference = paired_bootstrap(before, after, resamples=2000, seed=1)
    assert difference.value == pytest.approx((after - before).mean())
    assert 0 < difference.low and difference.p_value < 0.01
    # Unpaired, the spread of the difficulties would hide it.
    alone = [bootstrap(values, resamples=2000, seed=1) for values in (before, after)]
    assert alone[0].high > alone[1].low
    back = paired_bootstrap(after, before, resamples=2000, seed=1)
    assert back.value == pytest.approx(-difference.value) and back.p_value < 0.01


def test_paired_bootstrap_finds_nothing_where_nothing_is():
    generator = np.random.default_rng(2)
    found = [paired_bootstrap(*pairs(0.0, generator), resamples=300, seed=trial) for trial in range(300)]
    assert 0.02 <= np.mean([difference.p_value < 0.05 for difference in found]) <= 0.09


def test_paired_bootstrap_p_agrees_with_its_interval_and_has_bounds():
    same = paired_bootstrap(np.array([0.1, 0.2]), np.array([0.1, 0.2]), resamples=100, seed=1)
    assert (same.value, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    assert paired_bootstrap(np.zeros(9), np.ones(9), resamples=99, seed=1).p_value == pytest.approx(2 / 100)
    # The sum is zero only up to rounding.
    canceled = paired_bootstrap(np.array([0.1, 0.2, 0.3]), np.array([0.2, 0.3, 0.1]), resamples=500, seed=1)
    assert canceled.p_value > 0.5


def test_questions_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="1 and 3 questions: both must have the same questions"):
        paired_bootstrap(np.zeros(1), np.zeros(3), resamples=10, seed=1)
    with pytest.raises(ValueError):
        majority_at_k([[RIGHT]], [["a"], ["b"]], 1)
    with pytest.raises(ValueError):
        majority_at_k([[RIGHT, RIGHT]], [["a"]], 1)
