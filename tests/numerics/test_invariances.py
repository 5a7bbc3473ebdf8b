"""Changes that must not affect the result: row order, padding, reward scale and shift, batches, ranks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from verl.workers.config import FSDPActorConfig

from reinforcepp_verl.algorithm.moments import Memory
from reinforcepp_verl.algorithm.registry import ESTIMATORS
from reinforcepp_verl.integration.batch_context import BatchContext, use_context
from reinforcepp_verl.integration.estimator_adapter import estimator_for_verl
from reinforcepp_verl.integration.loss_adapter import loss_for_verl

reinforcepp_policy_loss = loss_for_verl("reinforcepp")

ROWS, LENGTH, FEATURES = 8, 12, 5
MODES = ["token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"]
UNCLIPPED = {"reward_clip": None}
NORMALISED = ["reinforcepp", "reinforcepp_baseline"]
NAMES = list(ESTIMATORS)
OPTIONS = [{}, {"population": "sample"}, {"zero_signal": "pin", "reward_norm": "batch"}, {"unbiased_variance": True}]
CLOSE = {"atol": 2e-5, "rtol": 1e-5}


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(7)
    rewards = torch.randn(ROWS, LENGTH, generator=generator)
    mask = (torch.rand(ROWS, LENGTH, generator=generator) > 0.3).long()
    mask[:, 0] = 1  # a score has a sampled token before it
    mask[-1] = 0  # a rejected answer
    return rewards, mask, np.array(["a", "b", "a", "c", "b", "a", "c", "b"], dtype=object)


def estimate(name, rewards, mask, uids, options=None, gamma=1.0):
    config = OmegaConf.create({"gamma": gamma, "reinforcepp": options})
    greedy = None if uids is None else torch.tensor([{"a": 0.5, "b": -1.0}.get(uid, 0.0) for uid in uids])
    context = BatchContext(rewards, torch.arange(len(rewards)), Memory(), score_mask=rewards != 0, greedy_score=greedy)
    with use_context(context):
        return estimator_for_verl(name)(token_level_rewards=rewards, response_mask=mask, index=uids, config=config)


def check(actual, expected):
    for x, y in zip(actual, expected, strict=True):
        torch.testing.assert_close(x, y, **CLOSE)


@pytest.mark.parametrize("estimator", NORMALISED)
def test_advantages_have_zero_mean_and_unit_variance_over_valid_tokens(estimator, batch):
    tokens = estimate(estimator, *batch)[0][batch[1].bool()]
    assert tokens.mean().item() == pytest.approx(0, abs=1e-6)
    assert tokens.var(correction=0).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("estimator", NAMES)
def test_permuting_rows_permutes_the_result(estimator, options, batch):
    rewards, mask, uids = batch
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(0))
    permuted = estimate(estimator, rewards[order], mask[order], uids[order.numpy()], options)
    check(permuted, [x[order] for x in estimate(estimator, *batch, options)])


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("estimator", NAMES)
def test_padding_columns_and_rows_change_nothing(estimator, options, batch):
    rewards, mask, uids = batch
    by = (0, 9, 0, 3)  # columns on the right, rows below
    padded = estimate(
        estimator,
        torch.nn.functional.pad(rewards, by),
        torch.nn.functional.pad(mask, by),
        np.append(uids, ["pad-0", "pad-1", "a"]),
        options,
    )
    check([x[:ROWS, :LENGTH] for x in padded], estimate(estimator, *batch, options))
    assert not any(x[ROWS:].any() or x[:, LENGTH:].any() for x in padded)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.floats(0.01, 100), st.lists(st.floats(-10, 10), min_size=3, max_size=3))
def test_baseline_advantages_ignore_reward_scale_and_shift_per_prompt(scale, shifts):
    generator = torch.Generator().manual_seed(3)
    score = torch.randn(9, generator=generator, dtype=torch.float64)
    uids = np.array(list("aaabbbccc"), dtype=object)
    mask = torch.ones(9, 4)
    moved = scale * score + torch.tensor(shifts, dtype=torch.float64).repeat_interleave(3)
    original, changed = (
        estimate("reinforcepp_baseline", torch.nn.functional.pad(s[:, None], (3, 0)), mask, uids, UNCLIPPED)[0]
        for s in (score, moved)
    )
    torch.testing.assert_close(changed, original, atol=1e-7, rtol=1e-7)


def test_plain_advantages_ignore_reward_scale_and_sign_flips_them(batch):
    rewards, mask, uids = batch
    original, _ = estimate("reinforcepp", rewards, mask, uids, UNCLIPPED)
    for scale in (0.1, 30.0, -1.0):
        changed, _ = estimate("reinforcepp", scale * rewards, mask, uids, UNCLIPPED)
        check([changed], [original if scale > 0 else -original])


def test_the_number_of_masked_tokens_in_between_does_not_matter():
    short = estimate("reinforcepp", torch.eye(6)[[5]], torch.tensor([[1, 1, 0, 1, 1, 1]]), None, gamma=0.9)
    long = estimate("reinforcepp", torch.eye(9)[[8]], torch.tensor([[1, 1, 0, 0, 0, 0, 1, 1, 1]]), None, gamma=0.9)
    check([x[:, [0, 1, 6, 7, 8]] for x in long], [x[:, [0, 1, 3, 4, 5]] for x in short])


def gradient(rows_per_backward, ranks, mode, loss_scale_factor=None):
    """Gradient of the shared weights, as data-parallel training forms it: sum micro-batches, average the ranks."""
    generator = torch.Generator().manual_seed(11)
    features = torch.randn(ROWS, LENGTH, FEATURES, generator=generator, dtype=torch.float64)
    weights = torch.randn(FEATURES, generator=generator, dtype=torch.float64, requires_grad=True)
    old_log_prob, advantages = torch.randn(2, ROWS, LENGTH, generator=generator, dtype=torch.float64)
    mask = torch.rand(ROWS, LENGTH, generator=generator) > 0.4
    mask[3] = False  # a micro-batch of one row may have no valid token
    config = FSDPActorConfig(
        rollout_n=1,
        ppo_micro_batch_size_per_gpu=1,
        clip_ratio_c=None,
        global_batch_info={
            "dp_size": ranks,
            "batch_num_tokens": int(mask.sum()),
            "global_batch_size": ROWS,
            "loss_scale_factor": loss_scale_factor,
        },
    )
    total = 0.0
    for rows in torch.arange(ROWS).split(rows_per_backward):
        loss, _ = reinforcepp_policy_loss(
            old_log_prob[rows], features[rows] @ weights, advantages[rows], mask[rows], mode, config
        )
        loss.backward()
        total += loss.item()
    return weights.grad / ranks, total / ranks


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("loss_scale_factor", [None, 100])
def test_micro_batches_and_ranks_give_the_gradient_of_the_whole_batch(mode, loss_scale_factor):
    expected, expected_loss = gradient(ROWS, 1, mode, loss_scale_factor)
    assert expected.abs().max() > 1e-6
    for rows_per_backward, ranks in [(1, 1), (3, 1), (ROWS // 2, 2), (1, 2)]:
        actual, actual_loss = gradient(rows_per_backward, ranks, mode, loss_scale_factor)
        torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-10)
        assert actual_loss == pytest.approx(expected_loss, rel=1e-10)
