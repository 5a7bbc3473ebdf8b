"""Each preset against its namesake: OpenRLHF's functions transcribed, verl's own functions, the paper's equations.

OpenRLHF is read at 3c3be62 (0.11.0): experience_maker.py, compute_advantages_and_returns and get_cumulative_returns,
and models/utils.py, compute_reward. It works in fp32, the transcription in float64.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from verl.trainer.ppo.core_algos import (
    compute_reinforce_plus_plus_baseline_outcome_advantage,
    compute_reinforce_plus_plus_outcome_advantage,
)
from verl.workers.config import FSDPActorConfig

from reinforcepp_verl.algorithm.batch import RewardBatch
from reinforcepp_verl.algorithm.estimators import reinforcepp, reinforcepp_baseline
from reinforcepp_verl.algorithm.options import PRESETS
from reinforcepp_verl.config.search_path import config_dir
from reinforcepp_verl.integration.loss_adapter import loss_for_verl

reinforcepp_policy_loss = loss_for_verl("reinforcepp")

property_test = settings(max_examples=60, deadline=None, derandomize=True)
OURS = {"reinforce": reinforcepp, "reinforce_baseline": reinforcepp_baseline}


# --- OpenRLHF, literally


def openrlhf_reward(r, kl_coef, kl, action_mask, clip_range):
    r = [min(max(x, clip_range[0]), clip_range[1]) for x in r]
    reward = [[-kl_coef * x for x in row] for row in kl]
    for i in range(len(r)):
        for t in reversed(range(len(action_mask[i]))):
            if action_mask[i][t] > 0.5:
                reward[i][t] += r[i]
                break
    return reward


def openrlhf_cumulative_returns(rewards, action_mask, gamma):
    returns = [[0.0] * len(row) for row in rewards]
    for i in range(len(rewards)):
        cumulative_return = 0.0
        for t in reversed(range(len(rewards[i]))):
            cumulative_return = action_mask[i][t] * rewards[i][t] + gamma * cumulative_return
            returns[i][t] = cumulative_return
    return returns


def openrlhf(estimator, rewards, kl, action_mask, *, samples_per_prompt, kl_coef, gamma):
    """Rewards per answer, KL per token; rows sorted by prompt, `samples_per_prompt` each."""
    if estimator == "reinforce_baseline":
        groups = torch.tensor(rewards, dtype=torch.float64).reshape(-1, samples_per_prompt)
        rewards = (groups - groups.mean(-1, keepdim=True)).flatten().tolist()
        gamma = 1.0
    reward = openrlhf_reward(rewards, kl_coef, kl, action_mask, (-10, 10))
    returns = openrlhf_cumulative_returns(reward, action_mask, gamma)
    advantages, masks = torch.tensor(returns, dtype=torch.float64), torch.tensor(action_mask)
    num_actions = masks.sum()
    mean = (advantages * masks).sum() / num_actions
    var = ((advantages - mean).pow(2) * masks).sum() / num_actions
    rstd = var.clamp(min=1e-8).rsqrt()
    return (advantages - mean) * rstd, torch.tensor(returns, dtype=torch.float64)


@st.composite
def batches(draw, gaps=True, magnitude=30.0):
    """Groups of equal size: a score per answer, a KL per token, and a mask with at least one valid token per row."""
    samples, prompts, length = draw(st.integers(2, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 9))
    rows = samples * prompts
    number = st.floats(-magnitude, magnitude, allow_subnormal=False)
    scores = draw(st.lists(number, min_size=rows, max_size=rows))
    kl = draw(st.lists(st.lists(st.floats(-2, 2), min_size=length, max_size=length), min_size=rows, max_size=rows))
    if gaps:
        row = st.lists(st.integers(0, 1), min_size=length, max_size=length).filter(any)
    else:
        row = st.integers(1, length).map(lambda valid: [1] * valid + [0] * (length - valid))
    return scores, kl, draw(st.lists(row, min_size=rows, max_size=rows)), samples


def outcome(scores, kl, mask, samples, kl_coef=0.0):
    """Our inputs, with the score on the last position, masked or not, as in verl."""
    rewards = torch.zeros(len(mask), len(mask[0]), dtype=torch.float64)
    rewards[:, -1] = torch.tensor(scores, dtype=torch.float64)
    penalty = kl_coef * torch.tensor(kl, dtype=torch.float64) if kl_coef else None
    groups = torch.arange(len(mask)) // samples
    return RewardBatch(rewards, torch.tensor(mask), penalty, group_index=groups)


def assert_equal_on_valid_tokens(estimate, expected, mask):
    valid = torch.tensor(mask).bool()
    for actual, wanted in zip((estimate.advantages, estimate.returns), expected, strict=True):
        torch.testing.assert_close(actual[valid], wanted[valid], atol=1e-8, rtol=1e-8)
        assert not actual[~valid].any()  # OpenRLHF leaves numbers there, and its loss masks them


@property_test
@given(batches(), st.sampled_from(["reinforce", "reinforce_baseline"]), st.sampled_from([0.0, 1e-3, 0.1]))
def test_openrlhf_preset_equals_openrlhf_at_gamma_1_with_masked_tokens_in_between(batch, name, kl_coef):
    scores, kl, mask, samples = batch
    expected = openrlhf(name, scores, kl, mask, samples_per_prompt=samples, kl_coef=kl_coef, gamma=1.0)
    estimate = OURS[name](outcome(*batch, kl_coef=kl_coef), PRESETS["openrlhf"])
    assert_equal_on_valid_tokens(estimate, expected, mask)


@property_test
@given(batches(gaps=False), st.sampled_from([0.0, 0.1]), st.sampled_from([0.0, 0.5, 0.99]))
def test_openrlhf_preset_equals_openrlhf_at_any_gamma_without_masked_tokens_in_between(batch, kl_coef, gamma):
    scores, kl, mask, samples = batch
    expected = openrlhf("reinforce", scores, kl, mask, samples_per_prompt=samples, kl_coef=kl_coef, gamma=gamma)
    estimate = reinforcepp(outcome(*batch, kl_coef=kl_coef), PRESETS["openrlhf"], gamma=gamma)
    assert_equal_on_valid_tokens(estimate, expected, mask)


def test_openrlhf_preset_does_not_discount_across_masked_tokens_as_openrlhf_does():
    batch = [1.0, 0.0], [[0.0] * 4] * 2, [[1, 0, 0, 1], [1, 1, 1, 1]], 2
    _, theirs = openrlhf("reinforce", *batch[:3], samples_per_prompt=2, kl_coef=0.0, gamma=0.5)
    assert theirs[0].tolist() == [0.125, 0.25, 0.5, 1.0]
    assert reinforcepp(outcome(*batch), PRESETS["openrlhf"], gamma=0.5).returns[0].tolist() == [0.5, 0.0, 0.0, 1.0]


def test_openrlhf_preset_clips_after_the_group_mean():
    batch = [30.0, 0.0, 4.0, 2.0], [[0.0]] * 4, [[1]] * 4, 2
    assert reinforcepp_baseline(outcome(*batch), PRESETS["openrlhf"]).returns.flatten().tolist() == [10, -10, 1, -1]
    assert reinforcepp(outcome(*batch), PRESETS["openrlhf"]).returns.flatten().tolist() == [10, 0, 4, 2]


# --- verl


def verl_builtins(batch, gamma):
    rewards, mask = batch.token_level_scores.clone(), batch.response_mask
    index = np.array([str(group) for group in batch.group_index.tolist()], dtype=object)
    config = OmegaConf.create({"gamma": gamma})
    plain, returns = compute_reinforce_plus_plus_outcome_advantage(rewards, mask, config=config)
    return plain, returns, compute_reinforce_plus_plus_baseline_outcome_advantage(rewards, mask, index)[0]


@property_test
@given(batches(), st.sampled_from([0.0, 0.9, 1.0]))
def test_verl_preset_equals_verl_where_the_standard_deviation_is_above_its_epsilon(batch, gamma):
    """Claimed for scores on valid tokens, two valid tokens or more, and a standard deviation of 1e-3 or more."""
    given_batch = outcome(*batch)
    assume(given_batch.response_mask.sum() > 1)
    last = given_batch.response_mask.shape[1] - 1 - given_batch.response_mask.flip(-1).argmax(-1, keepdim=True)
    scores = torch.zeros_like(given_batch.token_level_scores).scatter_(
        1, last, torch.tensor(batch[0], dtype=torch.float64)[:, None]
    )
    given_batch = RewardBatch(scores, given_batch.response_mask, group_index=given_batch.group_index)
    plain, returns, baseline = verl_builtins(given_batch, gamma)
    estimate = reinforcepp(given_batch, PRESETS["verl"], gamma=gamma)
    torch.testing.assert_close(estimate.returns, returns)
    for ours, theirs in (
        (estimate, plain),
        (reinforcepp_baseline(given_batch, PRESETS["verl"]), baseline),
    ):
        variance = ours.returns[given_batch.response_mask.bool()].var().item()  # Bessel's
        if variance < 1e-6:
            continue
        # verl divides by sqrt(variance + 1e-8), a known factor.
        shrunk = ours.advantages * math.sqrt(variance / (variance + 1e-8))
        torch.testing.assert_close(shrunk, theirs, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(ours.advantages, theirs, atol=1e-6, rtol=5.1e-3)


def test_verl_preset_differs_from_verl_below_a_standard_deviation_of_1e_3():
    scores, mask = torch.tensor([[1e-4], [-1e-4]], dtype=torch.float64), torch.ones(2, 1)
    batch = RewardBatch(scores, mask, group_index=torch.zeros(2, dtype=torch.long))
    population_std_of_1e_4 = reinforcepp(batch, PRESETS["openrlhf"]).advantages[0].item()
    bessel = reinforcepp(batch, PRESETS["verl"]).advantages[0].item()
    theirs = verl_builtins(batch, 1.0)[0][0].item()
    assert (population_std_of_1e_4, bessel) == pytest.approx((1.0, 0.5**0.5))
    assert theirs == pytest.approx(math.sqrt(1 / 3), rel=1e-6)


def test_verl_preset_has_bessels_correction_and_openrlhfs_does_not():
    batch = RewardBatch(torch.tensor([[1.0], [0.0], [0.0], [0.0]]), torch.ones(4, 1))
    for preset, expected in (("verl", [1.5, -0.5]), ("openrlhf", [3**0.5, -(3**-0.5)])):
        assert reinforcepp(batch, PRESETS[preset]).advantages[:2, 0].tolist() == pytest.approx(expected)


# --- the paper


def paper_normalized(values):
    """Eq. 5 and 7 "over all N samples" (App. B.2), epsilon left out."""
    mean = math.fsum(values) / len(values)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    return std, [(value - mean) / std if std else 0.0 for value in values]


@property_test
@given(batches(magnitude=4.0))
def test_paper_preset_is_equations_4_to_7_with_one_value_per_sample(batch):
    """Without KL every token of an answer has the same value. With it Eq. 4 gives one per token: see the next test."""
    r, _, mask, samples = batch
    groups = [r[i - i % samples : i - i % samples + samples] for i in range(len(r))]
    centered = [value - math.fsum(group) / samples for value, group in zip(r, groups, strict=True)]
    valid = torch.tensor(mask, dtype=torch.float64)
    for estimator, values in ((reinforcepp, r), (reinforcepp_baseline, centered)):
        std, expected = paper_normalized(values)
        estimate = estimator(outcome(*batch), PRESETS["paper"])
        torch.testing.assert_close(estimate.returns, valid * torch.tensor(values, dtype=torch.float64)[:, None])
        if std >= 1e-4:  # the floor of ours
            wanted = valid * torch.tensor(expected, dtype=torch.float64)[:, None]
            torch.testing.assert_close(estimate.advantages, wanted, atol=1e-6, rtol=1e-6)


def test_paper_preset_gives_token_values_to_token_level_kl():
    # Eq. 4: r - beta * (KL from here on). Each answer weighs once in the mean, however many tokens it has.
    penalty = torch.tensor([[0.3, 0.2, 0.1], [0.4, 0.0, 0.0]], dtype=torch.float64)
    scores = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    estimate = reinforcepp(RewardBatch(scores, mask, penalty), PRESETS["paper"])
    returns = torch.tensor([[0.4, 0.7, 0.9], [-0.4, 0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(estimate.returns, returns)
    weight = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [1.0, 0.0, 0.0]]).double() / 2
    mean = (weight * returns).sum()
    expected = (returns - mean) / (weight * (returns - mean) ** 2).sum().sqrt() * mask
    torch.testing.assert_close(estimate.advantages, expected)


def test_paper_preset_minimizes_equation_1():
    """`-1/N sum_i 1/|o_i| sum_t min(s A, clip(s, 1 - eps, 1 + eps) A)`, with the loss settings of preset/paper.yaml."""
    actor = OmegaConf.load(config_dir() / "preset" / "paper.yaml").actor_rollout_ref.actor
    generator = torch.Generator().manual_seed(4)
    old, new, advantages = torch.randn(3, 5, 7, generator=generator, dtype=torch.float64)
    mask = torch.arange(7) < torch.tensor([7, 1, 3, 5, 2])[:, None]
    config = FSDPActorConfig(
        rollout_n=1,
        ppo_micro_batch_size_per_gpu=1,
        clip_ratio=0.2,
        clip_ratio_low=None,
        clip_ratio_high=None,
        **actor,
    )
    loss, _ = reinforcepp_policy_loss(old, new, advantages, mask, config.loss_agg_mode, config)
    answers = []
    for i in range(5):
        tokens = []
        for t in range(int(mask[i].sum())):
            s, a = math.exp(new[i, t] - old[i, t]), advantages[i, t].item()
            tokens.append(min(s * a, min(max(s, 0.8), 1.2) * a))
        answers.append(math.fsum(tokens) / len(tokens))
    assert loss.item() == pytest.approx(-math.fsum(answers) / 5, rel=1e-7)
