"""The trust region between rollout engine and trainer: OpenRLHF 0.11.2's cases, and hand-computed ones."""

import math

import pytest
import torch

from reinforcepp_verl.algorithm.rollout_gate import divergence, kept_tokens
from reinforcepp_verl.algorithm.rollout_gate_options import RolloutGateOptions


def kept(kind, trainer, engine, *, level, limit, offsets=None, mask=None):
    trainer, engine = torch.tensor(trainer).log(), torch.tensor(engine).log()
    distance = divergence(kind, old_log_prob=trainer, rollout_log_prob=engine)
    valid = torch.ones(len(trainer)) if mask is None else torch.tensor(mask)
    rows = torch.tensor([0, len(trainer)] if offsets is None else offsets)
    return kept_tokens(distance, valid, rows, level=level, limit=limit).tolist()


def test_binary_kl_by_hand():
    # p = 0.5 of the engine, q = 0.25 of the trainer: 0.5 log 2 + 0.5 log(0.5 / 0.75)
    found = divergence("binary_kl", old_log_prob=torch.tensor([0.25]).log(), rollout_log_prob=torch.tensor([0.5]).log())
    assert found.item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))


def test_cases_of_openrlhf():
    far = ([1.0, 0.5], [1 / 3, 0.5])
    assert kept("binary_kl", *far, level="token", limit=0.05) == [False, True]
    assert kept("binary_kl", *far, level="answer", limit=3e-3) == [False, False]
    assert kept("binary_kl", *reversed(far), level="answer", limit=3e-3) == [False, False]
    assert kept("binary_kl", [0.5, 0.5], [0.505, 0.505], level="answer", limit=3e-3) == [True, True]
    assert kept("total_variation", [0.6, 0.52], [0.5, 0.5], level="token", limit=0.05) == [False, True]


def test_an_answer_counts_its_valid_tokens_only():
    # Means 0.1, 0.02 with the masked token left out, and an answer without a valid token.
    trainer, engine = [0.6, 0.5, 0.52, 0.9, 0.3], [0.5, 0.4, 0.5, 0.1, 0.3]
    mask, offsets = [1, 1, 1, 0, 0], [0, 2, 4, 5]
    found = kept("total_variation", trainer, engine, level="answer", limit=0.05, offsets=offsets, mask=mask)
    assert found == [False, False, True, False, False]


def test_certain_and_impossible_tokens_are_finite():
    logs = torch.tensor([0.0, -200.0, 0.0, -200.0])
    found = divergence("binary_kl", old_log_prob=logs, rollout_log_prob=torch.tensor([0.0, -200.0, -200.0, 0.0]))
    assert found.isfinite().all() and found[:2].tolist() == [0.0, 0.0] and (found[2:] > 10).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"divergence": "kl"}, "divergence is 'kl': it must be one of none, binary_kl, total_variation"),
        ({"level": "seq"}, "level is 'seq': it must be one of token, answer"),
        ({"limit": -1.0}, "limit is -1.0: it must be finite and 0 or more"),
    ],
)
def test_options_name_the_key_and_what_is_valid(options, message):
    with pytest.raises(ValueError, match=f"algorithm.rollout_gate.{message}"):
        RolloutGateOptions(**options)
