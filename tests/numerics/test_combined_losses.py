"""Hand-computed values of the losses that docs/combinations.md combines with our advantages."""

from __future__ import annotations

import pytest
import torch
from verl.trainer.ppo.core_algos import get_policy_loss_fn
from verl.workers.config import FSDPActorConfig

import reinforcepp_verl.plugin  # noqa: F401

# Two answers, the first of two tokens. Ratios of its tokens: e^0.6 = 1.8221 and e^-0.2 = 0.8187; of the second's: 1,
# e^0.3 = 1.3499 and e^0.6.
LOG_RATIO = torch.tensor([[0.6, -0.2, 9.0], [0.0, 0.3, 0.6]], dtype=torch.float64)
ADVANTAGES = torch.tensor([[1.0, 1.0, 0.0], [-0.5, -0.5, -0.5]], dtype=torch.float64)
VALID = torch.tensor([[1, 1, 0], [1, 1, 1]], dtype=torch.bool)

# Geometric means of the ratios: e^0.2, clipped to 1.0004, and e^0.3, which is not clipped: its advantage is negative.
GSPO = (-1.0004 + 0.5 * 1.349859) / 2
# The log-ratio 0.6 of the first answer is clipped to 0.4, that of the second is not: e^0.1 and e^0.3.
GMPO = (-1.105171 + 0.5 * 1.349859) / 2
# All log-probabilities are -1, so each token's loss is its advantage times its ratio, which is at most 1.2.
CISPO = ((1.2 + 0.818731) - 0.5 * (1.0 + 1.2 + 1.2)) / 5
# 4 sigmoid(r - 1) = 2.778744 and 1.819225; 4 / 1.05 sigmoid(1.05 (r - 1)) = 1.904762, 2.250739 and 2.679367.
SAPO = (-(2.778744 + 1.819225) / 2 + 0.5 * (1.904762 + 2.250739 + 2.679367) / 3) / 2
# Sums of clipped tokens, divided by the constant 8: ratios at most 1.28 for the first answer.
DR_GRPO = (-(1.28 + 0.818731) + 0.5 * (1.0 + 1.349859 + 1.822119)) / 2 / 8

CASES = {
    "gspo": (GSPO, {"loss_agg_mode": "seq-mean-token-mean", "clip_ratio_low": 3e-4, "clip_ratio_high": 4e-4}),
    "geo_mean": (GMPO, {"clip_ratio_low": 0.4, "clip_ratio_high": 0.4}),
    "cispo": (CISPO, {"clip_ratio_low": 10, "clip_ratio_high": 0.2}),
    "sapo": (SAPO, {}),
    "reinforcepp": (DR_GRPO, {"loss_agg_mode": "seq-mean-token-sum-norm", "clip_ratio_high": 0.28}),
}


def loss_of(mode, log_prob):
    settings = {"clip_ratio_low": 0.2, "clip_ratio_c": None, **CASES[mode][1]}
    config = FSDPActorConfig(rollout_n=1, ppo_micro_batch_size_per_gpu=1, policy_loss={"loss_mode": mode}, **settings)
    config.global_batch_info["loss_scale_factor"] = 8
    old = (log_prob - LOG_RATIO).detach()
    return get_policy_loss_fn(mode)(old, log_prob, ADVANTAGES, VALID, config.loss_agg_mode, config)[0]


@pytest.mark.parametrize("mode", CASES)
def test_loss(mode):
    log_prob = torch.full((2, 3), -1.0, dtype=torch.float64, requires_grad=True)
    loss = loss_of(mode, log_prob)
    assert loss.item() == pytest.approx(CASES[mode][0], abs=1e-5)
    loss.backward()
    assert log_prob.grad[0, 2] == 0


def test_only_cispo_and_sapo_keep_the_gradient_of_a_clipped_token():
    clipped = {}
    for mode in CASES:
        log_prob = torch.full((2, 3), -1.0, dtype=torch.float64, requires_grad=True)
        loss_of(mode, log_prob).backward()
        clipped[mode] = log_prob.grad[0, 0].item()
    # CISPO: minus the clipped ratio times the advantage, over five tokens.
    assert clipped.pop("cispo") == pytest.approx(-1.2 / 5)
    # SAPO: minus r times the slope of the gate, 4 s (1 - s) with s = sigmoid(r - 1), over two tokens and two answers.
    assert clipped.pop("sapo") == pytest.approx(-1.822119 * 0.848390 / 4, abs=1e-5)
    assert set(clipped.values()) == {0.0}
