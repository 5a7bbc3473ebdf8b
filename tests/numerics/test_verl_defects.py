"""The defects B1 to B10 of verl 0.9.1's estimators, one test each: what verl does, and what ours does instead.

B11 to B14, of speed, loss and trainer, are in test_verl_defects_in_training.py. Numbers that are not obvious
were measured on verl 0.9.1 when the defects were found.
"""

import math
from dataclasses import asdict, fields

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from verl.trainer.config import AlgoConfig
from verl.trainer.ppo.core_algos import (
    compute_reinforce_plus_plus_baseline_outcome_advantage,
    compute_reinforce_plus_plus_outcome_advantage,
)

from reinforcepp_verl.algorithm.batch import NonFiniteRewardError, ScorePlacementError
from reinforcepp_verl.algorithm.moments import Memory
from reinforcepp_verl.algorithm.options import PRESETS
from reinforcepp_verl.integration import batch_context
from reinforcepp_verl.integration.estimator_adapter import estimator_for_verl

BOTH = ["reinforcepp", "reinforcepp_baseline"]
every_preset = pytest.mark.parametrize("preset", PRESETS)


def verl(name, rewards, mask, uids=None, gamma=1.0):
    if name == "reinforcepp":
        config = OmegaConf.create({"gamma": gamma})
        return compute_reinforce_plus_plus_outcome_advantage(rewards.clone(), mask, config=config)
    return compute_reinforce_plus_plus_baseline_outcome_advantage(rewards.clone(), mask, labels(uids))


def ours(name, scores, mask, uids=None, *, preset="openrlhf", kl=None, **changes):
    """Call the estimator as verl does; `kl` is a penalty that verl has subtracted from the scores before."""
    options = asdict(PRESETS[preset]) | changes
    config = OmegaConf.create({"gamma": 1.0, "use_kl_in_reward": kl is not None, "reinforcepp": options})
    with batch_context.use_context(batch_context.BatchContext(scores, torch.arange(len(scores)), Memory())):
        return estimator_for_verl(name)(scores if kl is None else scores - kl, mask, config, labels(uids))


def labels(uids):
    return None if uids is None else np.array(list(uids), dtype=object)


def answers(scores, lengths):
    """Rewards and mask of answers with one score each, on the last token."""
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    last = torch.tensor(lengths)[:, None] - 1
    return torch.zeros(mask.shape).scatter(1, last, torch.tensor(scores, dtype=torch.float32)[:, None]), mask


def row_values(result):
    """The one value on the tokens of each row, which all start at column 0."""
    return result[0][:, 0].tolist()


def test_b01_groups_without_signal_get_an_advantage_from_token_weighted_centering():
    # p's wrong answer is the longer one; both answers of q are right.
    batch = (*answers([1, 0, 1, 1], [2, 8, 4, 4]), "ppqq")
    assert row_values(verl("reinforcepp_baseline", *batch))[2:] == pytest.approx([0.4859, 0.4859], abs=1e-4)
    assert row_values(ours("reinforcepp_baseline", *batch))[2:] == pytest.approx([0.5, 0.5])
    assert row_values(ours("reinforcepp_baseline", *batch, zero_signal="pin")) == pytest.approx([2, -0.5, 0, 0])
    root2 = 2**0.5
    assert row_values(ours("reinforcepp_baseline", *batch, population="sample")) == pytest.approx([root2, -root2, 0, 0])


@pytest.mark.parametrize(("informative", "magnitude"), [(1.0, 1.0), (0.5, 1.41), (0.1, 3.16)])
def test_b02_groups_without_signal_inflate_the_others(informative, magnitude):
    groups = 40
    scores = [score for g in range(groups) for score in ((1, 0) if g < informative * groups else (1, 1))]
    batch = (*answers(scores, [20] * len(scores)), np.repeat(np.arange(groups), 2))
    for keep in (verl("reinforcepp_baseline", *batch), ours("reinforcepp_baseline", *batch)):
        assert keep[0].abs().max().item() == pytest.approx(magnitude, abs=0.005)
    pinned, _ = ours("reinforcepp_baseline", *batch, zero_signal="pin")
    assert pinned.abs().max().item() == pytest.approx(1.0)


@pytest.mark.parametrize("name", BOTH)
def test_b03_equal_rewards_amplify_the_noise_of_the_kl(name):
    scores, mask = answers([1] * 64, [8] * 64)
    kl = 1e-3 * 0.3 * torch.randn(scores.shape, generator=torch.Generator().manual_seed(0))
    uids = np.repeat(np.arange(16), 4)
    # A penalty of 3e-4 per token becomes an advantage as large as that of a right answer.
    for noisy in (verl(name, scores - kl, mask, uids), ours(name, scores, mask, uids, kl=kl)):
        assert noisy[0].std().item() == pytest.approx(0.99, abs=0.02)
        assert noisy[0].max().item() > 1.33
    assert not ours(name, scores, mask, uids, kl=kl, zero_signal="pin")[0].any()


@every_preset
def test_b04_a_score_on_a_masked_last_position_is_lost(preset):
    rewards = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert not verl("reinforcepp", rewards, mask)[1].any()
    assert ours("reinforcepp", rewards, mask, preset=preset)[1].tolist() == [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    _, returns = ours("reinforcepp_baseline", rewards, mask, "pp", preset=preset)
    assert returns.tolist() == [[0.5, 0.5, 0.0], [-0.5, -0.5, -0.5]]


@every_preset
def test_b05_rejected_answers_stay_in_the_group_mean(preset):
    scores, mask = answers([1, 100, 1, 0], [3, 3, 3, 3])
    mask[1] = 0
    assert row_values(verl("reinforcepp_baseline", scores, mask, "ppqq"))[0] == pytest.approx(-4 / 3, abs=1e-3)
    found = row_values(ours("reinforcepp_baseline", scores, mask, "ppqq", preset=preset))
    alone = row_values(ours("reinforcepp_baseline", scores[2:], mask[2:], "qq", preset=preset))
    assert found == pytest.approx([0, 0, *alone]) and alone[0] > 0.9


@every_preset
def test_b05_a_reward_on_a_rejected_token_stays_in_the_group_mean(preset):
    scores, mask = answers([1, 0, 0], [3, 3, 3])
    clean = verl("reinforcepp_baseline", scores, mask, "ppp")[0]
    mask[1, 1] = 0
    rejected = scores.clone()
    rejected[1, 1] = 100.0
    assert clean[0, 0] > 1 and verl("reinforcepp_baseline", rejected, mask, "ppp")[0][0, 0] < 0
    # Nothing says whether the 100 is the score of a step.
    with pytest.raises(ScorePlacementError, match="row 1 has a score that score_mask does not mark"):
        ours("reinforcepp_baseline", rejected, mask, "ppp", preset=preset)


@every_preset
@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("valid_tokens", [0, 1])
def test_b06_a_batch_of_no_or_one_valid_token_crashes(name, valid_tokens, preset):
    rewards, mask = torch.tensor([[1.0, 0.0]]), torch.tensor([[valid_tokens, 0]])
    with pytest.raises(ValueError, match="mask"):
        verl(name, rewards, mask, "p")
    assert ours(name, rewards, mask, "p", preset=preset)[0].tolist() == [[0.0, 0.0]]


@every_preset
@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_b07_one_bad_reward_spoils_every_advantage(name, bad, preset):
    scores, mask = answers([1, bad, 0, 1, 1, 0], [2, 3, 4, 2, 3, 4])
    spoilt = verl(name, scores, mask, "pppqqq")[0][mask.bool()]
    assert spoilt.isnan().all()
    with pytest.raises(NonFiniteRewardError, match="row 1"):
        ours(name, scores, mask, "pppqqq", preset=preset)
    rest = [0, 2, 3, 4, 5]
    found = ours(name, scores, mask, "pppqqq", preset=preset, nonfinite="drop")
    expected = ours(name, scores[rest], mask[rest], "ppqqq", preset=preset)
    for actual, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(actual[rest], wanted, rtol=0, atol=0)
        assert not actual[1].any()


@every_preset
@pytest.mark.parametrize("name", BOTH)
def test_b07_a_nan_in_a_masked_token_spoils_every_advantage(name, preset):
    scores, mask = answers([1, 0], [3, 3])
    mask[0, 1] = 0
    spoilt = scores.clone()
    spoilt[0, 1] = math.nan
    assert verl(name, spoilt, mask, "pp")[0][mask.bool()].isnan().all()
    expected = ours(name, scores, mask, "pp", preset=preset)
    for actual, wanted in zip(ours(name, spoilt, mask, "pp", preset=preset), expected, strict=True):
        assert torch.equal(actual, wanted)


@every_preset
def test_b08_a_group_of_one_keeps_its_raw_reward(preset):
    # p has signal, q has none, and of s only one answer is left.
    scores, mask = answers([1, 0, 1, 1, 1], [2, 2, 1, 1, 2])
    assert row_values(verl("reinforcepp_baseline", scores, mask, "ppqqs"))[4] == pytest.approx(1.255, abs=1e-3)
    found = row_values(ours("reinforcepp_baseline", scores, mask, "ppqqs", preset=preset))
    rest = row_values(ours("reinforcepp_baseline", scores[:4], mask[:4], "ppqq", preset=preset))
    assert found == pytest.approx([*rest, 0]) and rest[0] > 1


def test_b09_rewards_are_never_clipped_scaled_or_normalized():
    scores, mask = answers([1000, 0, 0, 0], [1, 1, 1, 1])
    assert verl("reinforcepp", scores, mask)[1].flatten().tolist() == [1000, 0, 0, 0]
    assert not [option.name for option in fields(AlgoConfig) if "clip" in option.name or "scale" in option.name]

    def returns(**options):
        return ours("reinforcepp", scores, mask, **options)[1].flatten().tolist()

    assert returns() == [10, 0, 0, 0]
    assert returns(reward_clip=None, reward_scale=0.5) == [500, 0, 0, 0]
    assert returns(reward_clip=None, reward_norm="batch") == pytest.approx([3**0.5, *[-(3**-0.5)] * 3])
    assert returns(reward_clip=[-0.5, 1], reward_norm="batch") == pytest.approx([1, -0.5, -0.5, -0.5])
    # OpenRLHF clips after the group mean, which is 250 here; Molt before.
    for at, expected in (("after_baseline", [10, -10, -10, -10]), ("before_baseline", [7.5, -2.5, -2.5, -2.5])):
        assert ours("reinforcepp_baseline", scores, mask, "pppp", reward_clip_at=at)[1].flatten().tolist() == expected


@every_preset
def test_b10_a_bool_mask_crashes_and_baseline_returns_are_the_advantages(preset):
    scores, mask = answers([3, 0, 1, 0], [2, 3, 4, 2])
    with pytest.raises(RuntimeError, match="bool"):
        verl("reinforcepp", scores, mask.bool())
    for name in BOTH:
        for actual, wanted in zip(
            ours(name, scores, mask.bool(), "ppqq", preset=preset),
            ours(name, scores, mask, "ppqq", preset=preset),
            strict=True,
        ):
            assert torch.equal(actual, wanted)
    advantages, returns = verl("reinforcepp_baseline", scores, mask, "ppqq")
    assert torch.equal(advantages, returns)
    advantages, returns = ours("reinforcepp_baseline", scores, mask, "ppqq", preset=preset)
    assert returns[:, 0].tolist() == [1.5, -1.5, 0.5, -0.5] and not torch.equal(advantages, returns)
    assert not returns[~mask.bool()].any() and not advantages[~mask.bool()].any()
