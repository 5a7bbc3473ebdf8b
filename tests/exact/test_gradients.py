"""The exact moments equal those over all batches, enumerated and put through the estimators that train."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage

from reinforcepp_verl.algorithm import estimators
from reinforcepp_verl.algorithm.batch import RewardBatch
from reinforcepp_verl.algorithm.options import ReinforceppOptions
from reinforcepp_verl.exact import gradients
from reinforcepp_verl.exact.gradients import Moments, Setting


def ours(estimator, **options):
    def advantages(scores: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
        batch = RewardBatch(scores[:, None], torch.ones(len(scores), 1), group_index=groups)
        return estimator(batch, ReinforceppOptions(reward_clip=None, **options)).advantages[:, 0]

    return advantages


def verls_grpo(scores: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    return compute_grpo_outcome_advantage(scores[:, None], torch.ones(len(scores), 1), groups.numpy())[0][:, 0]


TRAINED = {
    "reinforce, no baseline": ours(estimators.reinforce, baseline="none"),
    "rloo": ours(estimators.leave_one_out),
    "grpo": verls_grpo,
    "flash_reinforce (batch mean)": ours(estimators.reinforce, baseline="batch_mean"),
    "reinforcepp": ours(estimators.reinforcepp),
    "reinforcepp_baseline": ours(estimators.reinforcepp_baseline),
    "reinforcepp_baseline, pin": ours(estimators.reinforcepp_baseline, zero_signal="pin"),
}


def enumerated(setting: Setting, advantages) -> tuple[np.ndarray, float]:
    """Return the expected gradient in every logit, and its total variance, over all possible batches."""
    prompts = [p for p in range(len(setting.probabilities)) for _ in range(setting.groups * setting.n)]
    groups = torch.arange(len(prompts)) // setting.n
    w = setting.wordings
    policy = np.array([[p / w] * w + [(1 - p) / w] * w for p in setting.probabilities])
    first, second = np.zeros(policy.shape), 0.0
    for answers in itertools.product(range(2 * w), repeat=len(prompts)):
        scores = torch.tensor([float(answer < w) for answer in answers], dtype=torch.float64)
        advantage = advantages(scores, groups).numpy()
        gradient = np.zeros(policy.shape)
        for prompt, answer, weight in zip(prompts, answers, advantage, strict=True):
            gradient[prompt] += weight * (np.eye(2 * w)[answer] - policy[prompt]) / len(prompts)
        chance = np.prod([policy[prompt, answer] for prompt, answer in zip(prompts, answers, strict=True)])
        first += chance * gradient
        second += chance * (gradient**2).sum()
    return first, float(second - (first**2).sum())


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize(
    "setting",
    [
        Setting((0.2, 0.7), n=2, groups=1, wordings=2),
        Setting((0.2, 0.7), n=3, groups=1, wordings=1),
        Setting((0.1, 0.6), n=2, groups=2, wordings=1),
        Setting((0.3, 0.5, 0.9), n=2, groups=1, wordings=1),
    ],
    ids=["wordings", "three answers", "two groups", "three prompts"],
)
def test_moments_are_those_of_the_estimators_that_train(name, setting):
    moments = gradients.ESTIMATORS[name](setting)
    mean, variance = enumerated(setting, TRAINED[name])
    w = setting.wordings
    np.testing.assert_allclose(
        mean, np.hstack([[[m / w] * w + [-m / w] * w] for m in moments.mean]).reshape(mean.shape), atol=2e-6
    )
    assert moments.total_variance(w) == pytest.approx(variance, rel=1e-4)


def test_the_mean_of_an_unbiased_estimator_is_the_true_gradient():
    setting = Setting((0.1, 0.5, 0.8), n=4, groups=8)
    truth = gradients.true_gradient(setting)
    for name in ("reinforce, no baseline", "reinforce, moving average", "rloo"):
        np.testing.assert_allclose(gradients.ESTIMATORS[name](setting).mean, truth, rtol=1e-12)


def test_bias_vanishes_with_the_batch_for_the_global_deviation_and_grows_with_the_group_for_the_local_one():
    """Theorem 1 of arXiv 2501.03262, and what it says of larger batches (App. A.2)."""
    probabilities = (0.05, 0.3, 0.6, 0.95)

    def angle(name: str, n: int, groups: int) -> float:
        setting = Setting(probabilities, n, groups)
        return gradients.ESTIMATORS[name](setting).angle(gradients.true_gradient(setting))

    for name in ("reinforcepp", "reinforcepp_baseline", "reinforcepp_baseline, pin"):
        falling = [angle(name, 4, groups) for groups in (1, 4, 16, 64)]
        assert falling == sorted(falling, reverse=True) and falling[-1] < 0.1
    assert angle("grpo", 4, 1) == pytest.approx(angle("grpo", 4, 64))
    growing = [angle("grpo", n, 1) for n in (2, 4, 8, 16, 32, 64)]
    assert growing == sorted(growing) and growing[-1] > 10


def test_with_two_answers_grpo_has_the_direction_of_rloo():
    setting = Setting((0.2, 0.7), n=2, groups=3)
    grpo, rloo = gradients.grpo(setting).mean, gradients.leave_one_out(setting).mean
    np.testing.assert_allclose(grpo / grpo.sum(), rloo / rloo.sum(), rtol=1e-9)


def test_angle_and_noise_do_not_depend_on_the_scale():
    small, large = (
        Moments(np.array([1.0, 2]), np.array([3.0, 4]), 5.0),
        Moments(np.array([2.0, 4]), np.array([12.0, 16]), 20.0),
    )
    setting = Setting((0.5, 0.5), n=2)
    assert small.angle(np.array([1.0, 0])) == pytest.approx(large.angle(np.array([1.0, 0])))
    assert small.noise(setting) == pytest.approx(large.noise(setting))
