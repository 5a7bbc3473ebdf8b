"""The estimators use one torch thread, and leave the caller's number as it was."""

from __future__ import annotations

import inspect

import pytest
import torch

from reinforcepp_verl.algorithm import batch, estimators
from reinforcepp_verl.algorithm.batch import NonFiniteRewardError, RewardBatch
from reinforcepp_verl.algorithm.one_thread import one_thread
from reinforcepp_verl.algorithm.options import ReinforceppOptions

ESTIMATORS = ["reinforcepp", "reinforcepp_baseline", "reinforce", "reinforce_reward_to_go", "raft"]


def outcomes(rows, tokens):
    """Return a batch with tools' output in its rows, and a score and a KL penalty."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.rand(rows, tokens, generator=generator) < 0.8
    mask[:, -1] = True
    scores, penalty = torch.zeros(rows, tokens), torch.rand(rows, tokens, generator=generator)
    scores[:, -1] = torch.rand(rows, generator=generator)
    return RewardBatch(scores, mask, penalty, group_index=torch.arange(rows) // 4)


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    """Set a number of threads for one test."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimator_uses_one_thread_also_where_it_fails(name, threads, monkeypatch):
    used, prepare = [], batch.prepare

    def note(*args, **kwargs):
        used.append(torch.get_num_threads())
        return prepare(*args, **kwargs)

    monkeypatch.setattr(estimators, "prepare", note)
    estimator = getattr(estimators, name)
    estimator(outcomes(4, 8), ReinforceppOptions())
    assert torch.get_num_threads() == threads
    with pytest.raises(NonFiniteRewardError):
        estimator(RewardBatch(torch.full((4, 8), torch.nan), torch.ones(4, 8)), ReinforceppOptions())
    assert torch.get_num_threads() == threads
    assert used == [1, 1]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_results_do_not_depend_on_the_number_of_threads(name):
    inputs, before, found = outcomes(300, 2000), torch.get_num_threads(), []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            found.append(getattr(estimators, name)(inputs, ReinforceppOptions()))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0].advantages, other.advantages) for other in found)
    assert all(found[0].metrics == other.metrics for other in found)


def test_the_signature_stays_visible():
    assert list(inspect.signature(one_thread(estimators.raft)).parameters) == ["batch", "options", "memory"]
