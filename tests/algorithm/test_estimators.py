"""Hand-computed cases for the estimators."""

from dataclasses import replace

import pytest
import torch

from reinforcepp_verl.algorithm.batch import NonFiniteRewardError, RewardBatch
from reinforcepp_verl.algorithm.estimators import (
    greedy_baseline,
    leave_one_out,
    raft,
    reinforce,
    reinforce_reward_to_go,
    reinforcepp,
    reinforcepp_baseline,
)
from reinforcepp_verl.algorithm.moments import Memory
from reinforcepp_verl.algorithm.options import OPENRLHF

NAN, INF = float("nan"), float("inf")
ALL = [reinforcepp, reinforcepp_baseline, reinforce, reinforce_reward_to_go, leave_one_out, raft]
GROUP_OF_ALL = torch.zeros(9, dtype=torch.long)

# Wolfe's REINFORCE example: outcome scores 1 and 0.5 on the last token, and 0.1 times the token KL.
WOLFE = RewardBatch(
    torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 0.5]]),
    torch.ones(2, 3),
    0.1 * torch.tensor([[-1.0, 0.1, -0.3], [-0.5, 0.2, -0.2]]),
)


def outcomes(*scores, length=2, groups=None, sessions=None, mask=None):
    rewards = torch.zeros(len(scores), length)
    rewards[:, -1] = torch.tensor(scores)
    return RewardBatch(
        rewards,
        torch.ones(len(scores), length) if mask is None else torch.tensor(mask),
        group_index=GROUP_OF_ALL[: len(scores)] if groups is None else torch.tensor(groups),
        session_index=None if sessions is None else torch.tensor(sessions),
    )


def check(actual, expected, atol=1e-6):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), atol=atol, rtol=0)


def test_wolfe_example():
    estimate = reinforcepp(WOLFE, OPENRLHF)
    check(estimate.returns, [[1.12, 1.02, 1.03], [0.55, 0.50, 0.52]])
    check(estimate.advantages, [[1.22700, 0.85518, 0.89236], [-0.89236, -1.07827, -1.00391]], atol=1e-5)
    bessel = reinforcepp(WOLFE, replace(OPENRLHF, unbiased_variance=True)).advantages
    check(bessel, [[1.12009, 0.78067, 0.81461], [-0.81461, -0.98432, -0.91644]], atol=1e-5)
    classic = reinforce(WOLFE, OPENRLHF)
    check(classic.returns, [[1.12] * 3, [0.55] * 3])
    check(classic.advantages, [[0.285] * 3, [-0.285] * 3])
    check(reinforce(WOLFE, replace(OPENRLHF, baseline="none")).advantages, [[1.12] * 3, [0.55] * 3])
    to_go = reinforce_reward_to_go(WOLFE, OPENRLHF)  # minus the mean over the six tokens, 0.79
    check(to_go.advantages, [[0.33, 0.23, 0.24], [-0.24, -0.29, -0.27]])


def test_leave_one_out_counts_the_kl_in_score_and_baseline():
    check(leave_one_out(replace(WOLFE, group_index=GROUP_OF_ALL[:2]), OPENRLHF).advantages, [[0.57] * 3, [-0.57] * 3])
    # Three answers to the first prompt, two to the second, one to the third, which has nothing to compare with.
    batch = outcomes(1.04, 1.96, 2.95, 4.0, 1.0, 7.0, groups=[0, 0, 0, 1, 1, 2])
    check(leave_one_out(batch, OPENRLHF).advantages[:, 0], [-1.415, -0.035, 1.45, 3.0, -3.0, 0.0])


def test_leave_one_out_compares_sessions():
    rows = outcomes(1.0, 1.0, 0.0, 0.25, groups=[0] * 4, sessions=[7, 7, 8, 9])
    check(leave_one_out(rows, OPENRLHF).advantages[:, 0], [0.875, 0.875, -0.625, -0.25])


def test_greedy_baseline_subtracts_the_greedy_score_and_the_kl_to_come():
    batch = replace(WOLFE, greedy_score=torch.tensor([0.4, 0.9]))
    # (1 - 0.4) and (0.5 - 0.9), plus 0.12, 0.02, 0.03 and 0.05, 0, 0.02
    check(greedy_baseline(batch, OPENRLHF).advantages, [[0.72, 0.62, 0.63], [-0.35, -0.40, -0.38]])
    unclipped = replace(outcomes(15.0, 12.0), greedy_score=torch.tensor([12.0, 12.0]))
    check(greedy_baseline(unclipped, OPENRLHF).advantages, [[3, 3], [0, 0]])


def test_greedy_baseline_of_step_scores_is_subtracted_once():
    scores, marks = torch.tensor([[0.5, 0.0, 0.25]]), torch.tensor([[1, 0, 1]])
    batch = RewardBatch(scores, torch.ones(1, 3), score_mask=marks, greedy_score=torch.tensor([0.5]))
    check(greedy_baseline(batch, OPENRLHF).advantages, [[0.25, -0.25, -0.25]])


def test_an_answer_without_a_greedy_answer_gets_zero_and_a_batch_without_any_is_refused():
    batch = replace(outcomes(1.0, 1.0), greedy_score=torch.tensor([0.0, NAN]))
    check(greedy_baseline(batch, OPENRLHF).advantages, [[1, 1], [0, 0]])
    with pytest.raises(ValueError, match="the batch has no greedy answers.*method=remax"):
        greedy_baseline(outcomes(1.0), OPENRLHF)


def test_baseline_keeps_the_kl_per_token_with_kl_in_the_reward():
    batch = replace(WOLFE, group_index=GROUP_OF_ALL[:2])
    # (1 - 0.75) and (0.5 - 0.75), minus the KL still to come: 0.12, 0.02, 0.03 and 0.05, 0, 0.02
    check(reinforcepp_baseline(batch, OPENRLHF).returns, [[0.37, 0.27, 0.28], [-0.20, -0.25, -0.23]])


def test_population_of_samples_gives_every_answer_the_same_weight():
    mask = [[1, 0, 0, 0], [1, 1, 1, 1]]
    batch = outcomes(0.0, 1.0, length=4, mask=mask)
    sample = reinforcepp(batch, replace(OPENRLHF, population="sample")).advantages  # mean 1/2, variance 1/4
    check(sample, [[-1, 0, 0, 0], [1, 1, 1, 1]])
    token = reinforcepp(batch, OPENRLHF).advantages  # mean 4/5, variance 4/25
    check(token, [[-2, 0, 0, 0], [0.5] * 4])
    unbiased = reinforcepp(batch, replace(OPENRLHF, population="sample", unbiased_variance=True)).advantages
    check(unbiased, [[-(0.5**0.5), 0, 0, 0], [0.5**0.5] * 4])


@pytest.mark.parametrize("estimator", ALL)
def test_a_batch_with_zero_to_two_valid_tokens(estimator):
    for mask in ([[0, 0], [0, 0]], [[0, 1], [0, 0]], [[0, 1], [0, 1]]):
        estimate = estimator(outcomes(1.0, 0.0, mask=mask), OPENRLHF)
        assert estimate.advantages.isfinite().all()
        assert not estimate.advantages[~torch.tensor(mask).bool()].any()
        if sum(map(sum, mask)) < 2 and estimator is not reinforce:
            assert not estimate.advantages.any()


@pytest.mark.parametrize("reward", [0.1, 100.0, -1e6])
@pytest.mark.parametrize(
    "estimator", [reinforcepp, reinforcepp_baseline, reinforce, reinforce_reward_to_go, leave_one_out]
)
def test_equal_scores_give_exactly_zero(estimator, reward):
    batch = outcomes(*[reward] * 7, length=13, groups=[0, 0, 0, 1, 1, 1, 1])
    assert not estimator(batch, replace(OPENRLHF, reward_clip=None)).advantages.any()


def test_a_group_of_one_gets_zero_and_is_excluded_from_the_statistics():
    batch = outcomes(1.0, 0.0, 50.0, groups=[0, 0, 1])
    check(reinforcepp_baseline(batch, OPENRLHF).advantages, [[1, 1], [-1, -1], [0, 0]])
    check(raft(batch, OPENRLHF).advantages, [[1, 1], [0, 0], [0, 0]])
    check(leave_one_out(batch, OPENRLHF).advantages, [[1, 1], [-1, -1], [0, 0]])


def test_a_rejected_answer_is_excluded_from_its_group():
    batch = outcomes(1.0, 0.0, 100.0, mask=[[1, 1], [1, 1], [0, 0]])
    check(reinforcepp_baseline(batch, OPENRLHF).returns, [[0.5, 0.5], [-0.5, -0.5], [0, 0]])


def test_a_session_has_weight_one_however_many_rows_it_has():
    once = outcomes(1.0, 0.0, groups=[0, 0])
    thrice = outcomes(1.0, 1.0, 1.0, 0.0, groups=[0] * 4, sessions=[7, 7, 7, 9])
    check(reinforcepp_baseline(thrice, OPENRLHF).returns[[0, 3]], reinforcepp_baseline(once, OPENRLHF).returns)
    samples = replace(OPENRLHF, population="sample")
    answers = [(reinforce, OPENRLHF), (leave_one_out, OPENRLHF)]
    for estimator, options in [(reinforcepp, samples), (reinforcepp_baseline, samples), *answers]:
        check(estimator(thrice, options).advantages[[0, 3]], estimator(once, options).advantages)
    # Three rows of one session are not a group to compare in.
    alone = outcomes(1.0, 1.0, 0.5, groups=[0] * 3, sessions=[7, 7, 7])
    assert not reinforcepp_baseline(alone, OPENRLHF).advantages.any()


@pytest.mark.parametrize(("at", "expected"), [("after_baseline", [1.0, -1.0]), ("before_baseline", [0.5, -0.5])])
def test_clip_before_or_after_the_group_mean(at, expected):
    options = replace(OPENRLHF, reward_clip=[-1.0, 1.0], reward_clip_at=at)
    estimate = reinforcepp_baseline(outcomes(8.0, 0.0), options)
    check(estimate.returns[:, 0], expected)
    assert estimate.metrics["reinforcepp/clipped_rewards"] == (1.0 if at == "after_baseline" else 0.5)


def test_clip_applies_to_the_score_and_not_to_the_kl():
    batch = RewardBatch(
        torch.tensor([[0.0, 20.0], [0.0, 0.0]]), torch.ones(2, 2), torch.tensor([[30.0, 0.0], [0.0, 0.0]])
    )
    estimate = reinforcepp(batch, OPENRLHF)
    check(estimate.returns, [[-20, 10], [0, 0]])
    assert estimate.metrics["reinforcepp/clipped_rewards"] == 0.5


def test_norm_then_scale_then_clip():
    options = replace(OPENRLHF, reward_norm="batch", reward_scale=2.0, reward_clip=[-3.0, 1.0])
    # 0, 1, 2, 5 have mean 2 and variance 3.5
    expected = [max(-3.0, min(1.0, 2 * (x - 2) / 3.5**0.5)) for x in (0, 1, 2, 5)]
    check(reinforce(outcomes(0.0, 1.0, 2.0, 5.0), options).returns[:, 0], expected)


def test_running_norm_includes_earlier_batches():
    options, memory = replace(OPENRLHF, reward_norm="running", reward_clip=None), Memory()
    reinforce(outcomes(0.0, 1.0), options, memory=memory)
    second = reinforce(outcomes(2.0, 5.0), options, memory=memory)
    check(second.returns[:, 0], [0.0, 3 / 3.5**0.5])
    assert (memory.scores.count, memory.scores.mean) == (4, 2.0)


def test_moving_average_baseline_is_the_mean_of_all_returns_so_far():
    options, memory = replace(OPENRLHF, baseline="moving_average"), Memory()
    check(reinforce(outcomes(0.0, 1.0), options, memory=memory).advantages[:, 0], [-0.5, 0.5])
    check(reinforce(outcomes(2.0, 5.0), options, memory=memory).advantages[:, 0], [0.0, 3.0])
    restored = Memory.from_dict(memory.as_dict())
    check(reinforce(outcomes(2.0, 2.0), options, memory=restored).advantages[:, 0], [0.0, 0.0])


@pytest.mark.parametrize("estimator", [reinforcepp, reinforcepp_baseline])
def test_running_statistics_over_mini_batches_equal_those_of_the_whole_batch(estimator):
    generator = torch.Generator().manual_seed(0)
    batch = outcomes(*torch.randn(12, generator=generator).tolist(), groups=[i // 3 for i in range(12)])
    whole = estimator(batch, OPENRLHF).advantages
    options, memory = replace(OPENRLHF, statistics="running", statistics_window=4), Memory()
    for start in range(0, 12, 3):
        rows = slice(start, start + 3)
        part = RewardBatch(
            batch.token_level_scores[rows], batch.response_mask[rows], group_index=batch.group_index[rows]
        )
        last = estimator(part, options, memory=memory).advantages
    check(last, whole[9:])  # the last mini-batch sees the population of the whole batch


@pytest.mark.parametrize(
    "change", [{"statistics": "running"}, {"reward_norm": "running"}, {"baseline": "moving_average"}]
)
def test_a_running_statistic_without_state_is_refused(change):
    with pytest.raises(ValueError, match="need state that outlives the batch"):
        reinforce(outcomes(0.0, 1.0), replace(OPENRLHF, **change))


def test_pinning_excludes_groups_without_signal_from_the_statistics():
    batch = outcomes(1.0, 0.0, 1.0, 1.0, groups=[0, 0, 1, 1], mask=[[1, 0], [1, 1], [1, 1], [1, 1]])
    pinned = reinforcepp_baseline(batch, replace(OPENRLHF, zero_signal="pin"))
    alone = reinforcepp_baseline(outcomes(1.0, 0.0, mask=[[1, 0], [1, 1]]), OPENRLHF)
    check(pinned.advantages[:2], alone.advantages)
    assert not pinned.advantages[2:].any()
    assert reinforcepp_baseline(batch, OPENRLHF).advantages[2:].any()
    assert pinned.metrics["reinforcepp/zero_signal_groups"] == 0.5


@pytest.mark.parametrize("estimator", [reinforcepp, reinforce, reinforce_reward_to_go])
def test_pinning_a_batch_of_equal_scores_removes_its_kl(estimator):
    batch = RewardBatch(
        torch.tensor([[0.0, 1.0], [0.0, 1.0]]), torch.ones(2, 2), torch.tensor([[1e-3, 0.0], [0.0, -1e-3]])
    )
    assert estimator(batch, OPENRLHF).advantages.abs().max() > 1e-4
    assert not estimator(batch, replace(OPENRLHF, zero_signal="pin")).advantages.any()


def test_raft_splits_ties_and_ranks_by_score_minus_kl():
    batch = outcomes(1.0, 0.0, 1.0, 0.2, 0.3, groups=[0, 0, 0, 1, 1])
    check(raft(batch, OPENRLHF).advantages[:, 0], [0.5, 0, 0.5, 0, 1])
    penalty = torch.tensor([[0.1, 0.0]] + [[0.0, 0.0]] * 4)
    check(raft(replace(batch, kl_penalty=penalty), OPENRLHF).advantages[:, 0], [0, 0, 1, 0, 1])
    solved = outcomes(1.0, 1.0)
    check(raft(solved, OPENRLHF).advantages, [[0.5, 0.5], [0.5, 0.5]])
    assert not raft(solved, replace(OPENRLHF, zero_signal="pin")).advantages.any()


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("where", ["score", "kl", "trailing score"])
@pytest.mark.parametrize("estimator", ALL)
def test_a_non_finite_row_is_refused_or_reaches_no_other_row(estimator, where, bad):
    batch = outcomes(1.0, 0.0, 0.5, 0.25, groups=[0, 0, 1, 1], mask=[[1, 1], [1, 1], [1, 1], [1, 0]])
    kl_penalty = torch.zeros(4, 2)
    (kl_penalty if where == "kl" else batch.token_level_scores)[3, 0 if where == "kl" else 1] = bad
    batch = replace(batch, kl_penalty=kl_penalty)
    with pytest.raises(NonFiniteRewardError, match="1 of 4 rows .* row 3: .*nonfinite=drop"):
        estimator(batch, OPENRLHF)
    dropped = estimator(batch, replace(OPENRLHF, nonfinite="drop"))
    assert dropped.metrics["reinforcepp/dropped_rows/sum"] == 1
    kept = RewardBatch(*(x[:3] for x in (batch.token_level_scores, batch.response_mask, kl_penalty, batch.group_index)))
    check(dropped.advantages[:3], estimator(kept, OPENRLHF).advantages)
    assert not dropped.advantages[3].any()


@pytest.mark.parametrize("bad", [NAN, INF])
@pytest.mark.parametrize("estimator", ALL)
def test_a_non_finite_value_in_masked_tokens_or_a_rejected_row_is_harmless(estimator, bad):
    scores = torch.tensor([[1.0, bad, 2.0], [bad, bad, bad], [0.0, 0.0, 1.0], [0.0, 0.0, 4.0]])
    mask = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [1, 1, 1]])
    kl = torch.tensor([[0.1, bad, 0.2], [bad, bad, bad], [0.0, 0.0, 0.1], [0.0, 0.0, 0.0]])
    groups = GROUP_OF_ALL[:4]
    clean = RewardBatch(scores.nan_to_num(0, 0, 0), mask, kl.nan_to_num(0, 0, 0), groups, score_mask=mask)
    given = replace(clean, token_level_scores=scores, kl_penalty=kl)
    check(estimator(given, OPENRLHF).advantages, estimator(clean, OPENRLHF).advantages)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("estimator", ALL)
def test_statistics_use_at_least_fp32_and_inputs_stay_unchanged(estimator, dtype):
    scores = torch.tensor([[0.25, 0.0, 3.0], [0.0, 1.5, 0.5]], dtype=dtype)
    mask, marks = torch.tensor([[1, 1, 0], [1, 0, 1]]), torch.ones(2, 3)
    batch = RewardBatch(scores, mask, 0 * scores, GROUP_OF_ALL[:2], score_mask=marks)
    before = [x.clone() for x in (scores, batch.response_mask, batch.kl_penalty)]
    estimate = estimator(batch, OPENRLHF)
    exact = estimator(replace(batch, token_level_scores=scores.double()), OPENRLHF)
    for output, reference in zip(estimate[:2], exact[:2], strict=True):
        assert output.dtype == torch.promote_types(dtype, torch.float32) and output.shape == scores.shape
        check(output.double(), reference, atol=1e-6)
    after = (scores, batch.response_mask, batch.kl_penalty)
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))


@pytest.mark.parametrize("estimator", [reinforcepp, reinforcepp_baseline, reinforce, reinforce_reward_to_go])
def test_a_z_score_is_invariant_to_affine_changes_of_outcomes(estimator):
    options = replace(OPENRLHF, reward_norm="batch", reward_clip=None)
    scores, moved = [0.0, 1.0, 2.0, 5.0], [7.0, 10.0, 13.0, 22.0]
    check(estimator(outcomes(*moved), options).advantages, estimator(outcomes(*scores), options).advantages, atol=1e-5)


def steps(*rows):
    scores = torch.tensor(rows)
    everywhere = torch.ones_like(scores)
    return RewardBatch(scores, everywhere, group_index=GROUP_OF_ALL[: len(scores)], score_mask=everywhere)


def test_a_z_score_of_step_scores_only_scales_before_a_group_mean():
    batch = steps([1.0, 1.0, 1.0], [0.0, 0.0, 4.0], [0.0, 2.0, 1.0])
    plain, scored = (
        reinforcepp_baseline(batch, replace(OPENRLHF, reward_norm=norm, reward_clip=None)) for norm in ("none", "batch")
    )
    # The totals 3, 4, 3 have variance 2/9.
    check(scored.returns, plain.returns / (2 / 9) ** 0.5, atol=1e-5)
    check(scored.advantages, plain.advantages, atol=1e-5)


def test_a_z_score_of_equal_totals_only_centers():
    batch = steps([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0])
    returns = reinforcepp(batch, replace(OPENRLHF, reward_norm="batch")).returns
    check(returns, [[0, -1, -1], [0, 0, -1], [0, 0, 0]])


def test_pinning_uses_the_scores_that_the_estimator_uses():
    pin = replace(OPENRLHF, zero_signal="pin")
    equal_steps = RewardBatch(
        torch.tensor([[0.5, 0.0, 0.5], [0.0, 0.5, 0.5], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]),
        torch.tensor([[1, 1, 1], [1, 1, 1], [0, 1, 1], [1, 1, 1]]),
        group_index=torch.tensor([0, 0, 1, 1]),
        score_mask=torch.tensor([[1, 0, 1], [0, 1, 1], [0, 0, 1], [0, 0, 1]]),
    )
    assert not reinforcepp_baseline(equal_steps, pin).advantages[:2].any()
    equal_totals = steps([1.0, 0.0, 0.0], [0.0, 0.0, 1.0])
    assert reinforcepp_baseline(equal_totals, pin).advantages.any()
    assert reinforcepp(equal_totals, pin).advantages.any()
    assert not reinforce(equal_totals, pin).advantages.any() and not raft(equal_totals, pin).advantages.any()
    clipped = replace(pin, reward_clip=[-1.0, 1.0], reward_clip_at="before_baseline")
    made_equal = outcomes(5.0, 7.0, 1.0, 0.0, groups=[0, 0, 1, 1], mask=[[1, 1], [1, 1], [0, 1], [1, 1]])
    assert not reinforcepp_baseline(made_equal, clipped).advantages[:2].any()


def test_raft_ranks_the_scores_as_given():
    batch = outcomes(12.0, 20.0, 11.0)
    for options in (OPENRLHF, replace(OPENRLHF, reward_norm="batch", reward_scale=0.3)):
        check(raft(batch, options).advantages[:, 0], [0, 1, 0])


def test_one_session_has_no_bessel_correction():
    batch = RewardBatch(torch.tensor([[0.0, 1.0]]), torch.ones(1, 2), torch.tensor([[0.5, 0.0]]))
    options = replace(OPENRLHF, population="sample", unbiased_variance=True)
    check(reinforcepp(batch, options).advantages, [[-1, 1]])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_long_answer_with_a_half_precision_kl_is_summed_in_fp32(dtype):
    kl_penalty = torch.full((2, 2000), 40.0, dtype=dtype)
    batch = RewardBatch(torch.zeros(2, 2000, dtype=dtype), torch.ones(2, 2000), kl_penalty)
    assert reinforce(batch, OPENRLHF).returns[0, 0].item() == -80000


def test_a_scale_that_overflows_is_refused():
    with pytest.raises(ValueError, match="reward_scale is 10.0: it makes a finite score infinite"):
        reinforce(outcomes(3e38, 1.0), replace(OPENRLHF, reward_scale=10.0, reward_clip=None))


@pytest.mark.parametrize("estimator", ALL)
def test_a_batch_without_rows(estimator):
    empty = RewardBatch(torch.zeros(0, 3), torch.zeros(0, 3), group_index=torch.zeros(0, dtype=torch.long))
    assert estimator(empty, OPENRLHF).advantages.shape == (0, 3)


@pytest.mark.parametrize("gamma", [1e-320, 1e-200, 1e-199])
def test_a_tiny_gamma_leaves_each_token_its_own_reward(gamma):
    check(reinforcepp(steps([1.0, 2.0, 3.0]), OPENRLHF, gamma=gamma).returns, [[1, 2, 3]])


def test_metrics_describe_the_batch():
    batch = outcomes(1.0, 0.0, 1.0, 1.0, groups=[0, 0, 1, 1])
    metrics = reinforcepp(batch, OPENRLHF).metrics
    assert metrics["reinforcepp/raw_advantage/mean"] == 0.75
    assert metrics["reinforcepp/raw_advantage/std"] == pytest.approx(0.1875**0.5)
    assert metrics["reinforcepp/advantage/mean"] == pytest.approx(0)
    assert metrics["reinforcepp/advantage/std"] == pytest.approx(1)
    assert metrics["reinforcepp/zero_signal_groups"] == 0.5
    # |a| is 1/sqrt(3) three times and sqrt(3) once: (2 sqrt(3))^2 / 4 / 4
    assert metrics["reinforcepp/effective_samples"] == pytest.approx(0.75)
    assert reinforcepp_baseline(batch, OPENRLHF).metrics["reinforcepp/effective_samples"] == pytest.approx(0.5)
