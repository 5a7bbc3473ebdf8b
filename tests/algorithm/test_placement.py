"""Hand-computed cases of which tokens carry a score, and where the score of a masked token goes."""

from dataclasses import replace

import pytest
import torch

from reinforcepp_verl.algorithm import estimators
from reinforcepp_verl.algorithm.batch import RewardBatch, ScorePlacementError
from reinforcepp_verl.algorithm.estimators import reinforcepp, reinforcepp_baseline
from reinforcepp_verl.algorithm.options import OPENRLHF
from reinforcepp_verl.algorithm.placement import place_scores

NAN, INF = float("nan"), float("inf")
ALL = ["reinforcepp", "reinforcepp_baseline", "reinforce", "reinforce_reward_to_go", "raft"]


def place(scores, mask, score_mask=None):
    marks = torch.tensor([score_mask]).bool() if score_mask is not None else None
    return place_scores(torch.tensor([scores], dtype=torch.float32), torch.tensor([mask]).bool(), marks)


def one_group(scores, score_mask=None, mask=None):
    scores = torch.tensor(scores)
    return RewardBatch(
        scores,
        torch.ones_like(scores) if mask is None else torch.tensor(mask),
        group_index=torch.zeros(len(scores), dtype=torch.long),
        score_mask=torch.tensor(score_mask) if score_mask is not None else None,
    )


def check(actual, expected, atol=1e-6):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), atol=atol, rtol=0)


@pytest.mark.parametrize(
    ("scores", "mask", "expected", "moved"),
    [
        ([0, 0, 1], [1, 1, 1], [0, 0, 1], 0),
        ([0, 0, 1], [1, 1, 0], [0, 1, 0], 1),  # an outcome on a masked last position (verl loses it)
        ([0, 2, 0, 3, 1], [1, 1, 0, 0, 0], [0, 6, 0, 0, 0], 2),
        ([0, 7, 2, 0, 1], [1, 0, 1, 0, 0], [7, 0, 3, 0, 0], 2),  # the 7 is on the output of a tool
        ([1, 2, 3], [0, 0, 0], [0, 0, 0], 0),
        ([1, NAN, 2, 0], [1, 0, 1, 0], [1, 0, 2, 0], 0),  # not a score: verl may leave a NaN on a masked token
        ([NAN, INF, 2], [0, 0, 0], [0, 0, 0], 0),
    ],
)
def test_the_score_of_a_masked_token_moves_to_the_last_valid_token_before_it(scores, mask, expected, moved):
    placed = place(scores, mask)
    check(placed.scores, [expected])
    assert (placed.moved.item(), placed.unplaced.item(), placed.score_mask) == (moved, False, None)


@pytest.mark.parametrize(
    ("score_mask", "mask", "expected", "moved"),
    [
        ([1, 0, 1], [1, 1, 1], [1, 0, 1], 0),
        ([1, 0, 0], [1, 1, 1], [1, 0, 0], 0),
        ([0, 0, 0], [1, 1, 0], [0, 1, 0], 0),  # an outcome
        ([1, 0, 1], [1, 1, 0], [1, 1, 0], 1),  # a marked 0 moves like any other score
        ([0, 1, 1], [1, 0, 1], [1, 0, 1], 1),
        ([1, 1, 1], [0, 0, 0], [1, 0, 0], 0),  # whatever it is, the row is ignored
    ],
)
def test_a_mark_moves_with_its_score(score_mask, mask, expected, moved):
    placed = place([0, 0, 0], mask, score_mask)
    if any(mask):
        assert placed.score_mask.tolist() == [[bool(mark) for mark in expected]]
    assert placed.moved.item() == moved


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_non_finite_score_is_not_lost_where_verl_puts_an_outcome_or_a_mark_says_so(bad):
    assert not place([0, 0, bad], [1, 1, 0]).scores[0, 1].isfinite()
    assert not place([0, bad, 0], [1, 0, 1], [0, 1, 1]).scores[0, 0].isfinite()


def test_a_score_of_0_counts_as_a_score():
    scores = [[0.0, 0.0, 1.0], [1.0, 0.0, 1.0]]
    everywhere = [[1, 1, 1], [1, 1, 1]]
    # The mean over six scores is 1/2: -1/2 -1/2 +1/2 and +1/2 -1/2 +1/2, summed to the end.
    check(reinforcepp_baseline(one_group(scores, everywhere), OPENRLHF).returns, [[-0.5, 0, 0.5], [0.5, 0, 0.5]])
    tiny = [[score or 1e-6 for score in row] for row in scores]
    check(reinforcepp_baseline(one_group(tiny, everywhere), OPENRLHF).returns, [[-0.5, 0, 0.5], [0.5, 0, 0.5]], 1e-5)
    # The mean over the three marked scores is 1.
    marked = [[0, 0, 1], [1, 0, 1]]
    assert not reinforcepp_baseline(one_group(scores, marked), OPENRLHF).returns.any()


def test_each_marked_score_is_centered_by_the_mean_of_the_group():
    scores, marks = [[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 2.0]], [[0, 1, 0, 1], [0, 0, 0, 1]]
    # Scores 1, 0 and 2: the mean is 1.
    check(reinforcepp_baseline(one_group(scores, marks), OPENRLHF).returns, [[-1, -1, -1, -1], [1, 1, 1, 1]])
    marks[0][3] = 0  # scores 1 and 2: the mean is 1.5, and nothing is earned after the second token
    check(reinforcepp_baseline(one_group(scores, marks), OPENRLHF).returns, [[-0.5, -0.5, 0, 0], [0.5] * 4])
    # Without a group mean the scores still to come are the return, whatever carries them.
    for score_mask in (marks, None):
        check(reinforcepp(one_group(scores, score_mask), OPENRLHF).returns, [[1, 1, 0, 0], [2, 2, 2, 2]])


def test_the_score_of_a_tool_counts_for_the_token_that_called_it():
    mask = [[1, 0, 1], [1, 1, 1]]
    batch = one_group([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [[0, 1, 1], [0, 0, 1]], mask)
    estimate = reinforcepp_baseline(batch, OPENRLHF)  # scores 1, 0 and 1: the mean is 2/3
    check(estimate.returns, [[-1 / 3, 0, -2 / 3], [1 / 3, 1 / 3, 1 / 3]])
    assert estimate.metrics["reinforcepp/moved_scores/sum"] == 1


@pytest.mark.parametrize("name", ALL)
def test_moved_scores_are_those_of_answers(name):
    mask = [[1, 1, 0], [1, 0, 1], [0, 0, 0]]
    scores = [[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]
    metrics = getattr(estimators, name)(one_group(scores, mask=mask), OPENRLHF).metrics
    assert metrics["reinforcepp/moved_scores/sum"] == 1


@pytest.mark.parametrize("options", [{}, {"zero_signal": "pin"}, {"reward_norm": "batch"}, {"population": "sample"}])
@pytest.mark.parametrize("kl", [None, 0.1])
@pytest.mark.parametrize("name", ALL)
def test_an_outcome_is_the_same_with_and_without_marks(name, kl, options):
    scores = [[0.0, 0.0, 1.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0], [0.0, 0.0, 2.0]]
    mask = [[1, 1, 1], [1, 1, 0], [1, 1, 1], [1, 0, 1]]
    given = one_group(scores, mask=mask)
    given = replace(given, kl_penalty=None if kl is None else torch.full((4, 3), kl) * torch.arange(3))
    expected = getattr(estimators, name)(given, replace(OPENRLHF, **options))
    for marks in ([[0, 0, 1]] * 4, [[0, 0, 0]] * 4, [[0, 0, 1], [0, 1, 0], [0, 0, 0], [0, 0, 1]]):
        if marks[1] == [0, 1, 0]:
            marked = replace(given, token_level_scores=torch.tensor([scores[0], [0.0, 3.0, 0.0], *scores[2:]]))
        else:
            marked = given
        found = getattr(estimators, name)(replace(marked, score_mask=torch.tensor(marks)), replace(OPENRLHF, **options))
        check(found.advantages, expected.advantages)
        check(found.returns, expected.returns)


@pytest.mark.parametrize("name", ALL)
def test_marks_have_no_effect_on_padding_and_order(name):
    scores = torch.tensor([[0.0, 1.0, 0.0, 0.5], [0.0, 0.0, 0.0, 0.0], [2.0, 0.0, 0.0, -1.0], [0.0, 0.0, 1.0, 0.0]])
    marks = torch.tensor([[1, 1, 0, 1], [0, 1, 0, 1], [1, 0, 1, 1], [0, 0, 1, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 1, 1], [1, 1, 0, 0]])
    groups = torch.tensor([0, 1, 0, 1])
    estimator = getattr(estimators, name)
    expected = estimator(RewardBatch(scores, mask, group_index=groups, score_mask=marks), OPENRLHF).advantages
    order = torch.tensor([2, 0, 3, 1])
    permuted = RewardBatch(scores[order], mask[order], group_index=groups[order], score_mask=marks[order])
    check(estimator(permuted, OPENRLHF).advantages, expected[order])
    by = (0, 3, 0, 1)
    wide, valid, marked = (torch.nn.functional.pad(given, by) for given in (scores, mask, marks))
    padded = RewardBatch(wide, valid, group_index=torch.tensor([0, 1, 0, 1, 0]), score_mask=marked)
    check(estimator(padded, OPENRLHF).advantages[:4, :4], expected)


@pytest.mark.parametrize("name", ALL)
def test_a_score_before_the_first_valid_token_is_refused(name):
    estimator = getattr(estimators, name)
    rejected = one_group([[0.0, 0.0, 1.0], [5.0, 0.0, 1.0]], mask=[[1, 1, 1], [0, 0, 0]])
    estimator(rejected, OPENRLHF)
    early = one_group([[0.0, 0.0, 1.0], [5.0, 0.0, 1.0]], mask=[[1, 1, 1], [0, 1, 1]])
    with pytest.raises(ScorePlacementError, match="row 1 has a score before its first valid token, one of 1"):
        estimator(early, OPENRLHF)
    marked = one_group([[0.0, 0.0, 1.0]] * 2, [[0, 0, 1], [1, 0, 1]], [[1, 1, 1], [0, 1, 1]])
    with pytest.raises(ScorePlacementError, match="row 1 has a score before"):
        estimator(marked, OPENRLHF)


def test_a_score_without_a_mark_is_refused_where_marks_matter():
    scores = [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    with pytest.raises(ScorePlacementError, match="row 0 has a score that score_mask does not mark.*last valid token"):
        reinforcepp_baseline(one_group(scores), OPENRLHF)
    with pytest.raises(ScorePlacementError, match="row 0 has a score that score_mask does not mark"):
        reinforcepp(one_group(scores, [[1, 0, 1], [0, 0, 1]]), OPENRLHF)
    dropped = one_group([[NAN, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    reinforcepp_baseline(dropped, replace(OPENRLHF, nonfinite="drop"))
