"""The signature of estimators that verl calls: config handling, what is handed over, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from reinforcepp_verl.algorithm import estimators
from reinforcepp_verl.algorithm.batch import NonFiniteRewardError, RewardBatch
from reinforcepp_verl.algorithm.moments import Memory
from reinforcepp_verl.algorithm.options import OPENRLHF
from reinforcepp_verl.algorithm.registry import ESTIMATORS, RegisteredEstimator, Traits
from reinforcepp_verl.integration.batch_context import BatchContext, current_context, use_context
from reinforcepp_verl.integration.estimator_adapter import estimator_for_verl

REWARDS = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.5, 0.0], [0.0, 0.0, 2.0], [1.0, 0.0, 0.0]])
PENALTY = torch.tensor([[0.5, 0.0, 0.25], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.25, 0.0, 0.0]])
MASK = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 1], [1, 0, 0]])
UIDS = np.array(["b-7", "a-3", "b-7", "a-3"], dtype=object)


def algorithm(**keys):
    return OmegaConf.create({"gamma": 1.0, **keys})


def pure(estimator, group_index=None, options=OPENRLHF, **keys):
    estimate = estimator(RewardBatch(REWARDS, MASK, group_index=group_index), options, **keys)
    return estimate.advantages, estimate.returns


def same(actual, expected):
    return all(torch.equal(x, y) for x, y in zip(actual, expected, strict=True))


@pytest.mark.parametrize("node", [{}, {"reinforcepp": None}, {"reinforcepp": {}}])
def test_advantage_without_our_node_uses_the_defaults(node):
    config = algorithm(**node)
    OmegaConf.set_struct(config, True)
    actual = estimator_for_verl("reinforcepp")(
        token_level_rewards=REWARDS, response_mask=MASK, config=config, index=UIDS
    )
    assert same(actual, pure(estimators.reinforcepp))


def test_options_and_gamma_reach_the_formulas():
    node = {"unbiased_variance": True, "variance_floor": 0.3}
    options = replace(OPENRLHF, **node)
    config = algorithm(gamma=0.5, reinforcepp=node)
    actual = estimator_for_verl("reinforcepp")(token_level_rewards=REWARDS, response_mask=MASK, config=config)
    assert same(actual, pure(estimators.reinforcepp, options=options, gamma=0.5))
    config.gamma = 1.0
    actual = estimator_for_verl("reinforcepp_baseline")(
        token_level_rewards=REWARDS, response_mask=MASK, index=UIDS, config=config, future_verl_argument=None
    )
    assert same(actual, pure(estimators.reinforcepp_baseline, torch.tensor([1, 0, 1, 0]), options))


@pytest.mark.parametrize("name", ["reinforcepp_baseline", "reinforce", "raft"])
def test_whole_answers_refuse_a_discount(name):
    with pytest.raises(ValueError, match=r"algorithm\.gamma is 0\.99"):
        estimator_for_verl(name)(REWARDS, MASK, index=UIDS, config=algorithm(gamma=0.99))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_misspelt_option_stops_the_run(name):
    with pytest.raises(ValueError, match=r"algorithm\.reinforcepp\.varaince_floor"):
        estimator_for_verl(name)(REWARDS, MASK, index=UIDS, config=algorithm(reinforcepp={"varaince_floor": 1e-8}))


def under_verls_trainer(name, rewards=REWARDS - PENALTY, **keys):
    """Call as verl's own trainer does with KL in the reward: nobody hands over the scores."""
    return estimator_for_verl(name)(rewards, MASK, index=UIDS, config=algorithm(use_kl_in_reward=True, **keys))


@pytest.mark.parametrize("name", ["reinforcepp", "reinforce", "reinforce_reward_to_go", "raft"])
@pytest.mark.parametrize("node", [{}, {"population": "sample", "variance_floor": 0.3, "baseline": "none"}])
def test_verls_own_trainer_with_kl_in_the_reward_gives_what_ours_gives(name, node):
    config = algorithm(use_kl_in_reward=True, reinforcepp=node)
    with use_context(BatchContext(scores=REWARDS, session_index=torch.arange(4), memory=Memory())):
        expected = estimator_for_verl(name)(REWARDS - PENALTY, MASK, index=UIDS, config=config)
    torch.testing.assert_close(under_verls_trainer(name, reinforcepp=node), expected)


@pytest.mark.parametrize(
    ("node", "fix"),
    [
        ({"reward_norm": "batch"}, "reward_norm is batch.*reward_norm=none"),
        ({"reward_scale": 2.0}, r"reward_scale is 2\.0.*reward_scale=1\.0"),
        ({"zero_signal": "pin"}, "zero_signal is pin.*zero_signal=keep"),
        ({"reward_clip": [-1, 1]}, r"reward_clip is \[-1\.0, 1\.0\] and a reward is 2.*reward_clip=null"),
        ({"statistics": "running"}, "statistics=running.*need state.*`reinforcepp train`"),
        ({"reward_norm": "running"}, "reward_norm is running"),
    ],
)
def test_what_needs_the_scores_is_refused_under_verls_own_trainer(node, fix):
    with pytest.raises(ValueError, match=fix):
        under_verls_trainer("reinforcepp", reinforcepp=node)


def test_a_group_mean_needs_the_scores_too():
    with pytest.raises(ValueError, match="reinforcepp_baseline needs the scores without the KL.*kl_loss_type=mse"):
        under_verls_trainer("reinforcepp_baseline")


def test_an_estimator_that_keeps_state_is_refused_under_verls_own_trainer(monkeypatch):
    stateful = RegisteredEstimator("stateful", estimators.reinforcepp, Traits(keeps_state=True))
    monkeypatch.setitem(ESTIMATORS, "stateful", stateful)
    with pytest.raises(ValueError, match="adv_estimator is stateful: it keeps state.*`reinforcepp train`"):
        estimator_for_verl("stateful")(REWARDS, MASK, index=UIDS, config=algorithm())


def test_an_option_that_the_estimator_does_not_read_is_not_refused_by_it():
    under_verls_trainer("raft", reinforcepp={"reward_clip": [-1, 1], "reward_scale": 2.0})


def test_a_reward_that_is_no_number_is_not_taken_for_one_that_is_clipped():
    with pytest.raises(NonFiniteRewardError):
        under_verls_trainer("reinforcepp", torch.where(REWARDS == 2, float("inf"), REWARDS))


@pytest.mark.parametrize("node", [{"reward_norm": "batch"}, {"zero_signal": "pin"}, {"reward_clip": [-1, 1]}])
def test_without_kl_in_the_reward_verls_own_trainer_hands_over_the_scores(node):
    expected = pure(estimators.reinforcepp, torch.tensor([1, 0, 1, 0]), replace(OPENRLHF, **node))
    config = algorithm(use_kl_in_reward=False, reinforcepp=node)
    assert same(estimator_for_verl("reinforcepp")(REWARDS, MASK, index=UIDS, config=config), expected)


@pytest.mark.parametrize("name", ["reinforcepp", "reinforcepp_baseline", "reinforce", "reinforce_reward_to_go", "raft"])
def test_our_trainer_hands_over_scores_sessions_and_memory(name):
    sessions = torch.tensor([0, 1, 2, 1])
    context = BatchContext(scores=REWARDS, session_index=sessions, memory=Memory())
    node = {"statistics": "running", "reward_norm": "running", "baseline": "moving_average"}
    config = algorithm(use_kl_in_reward=True, reinforcepp=node)
    with use_context(context):
        actual = estimator_for_verl(name)(REWARDS - PENALTY, MASK, index=UIDS, config=config)
    memory = Memory()
    batch = RewardBatch(REWARDS, MASK, PENALTY, torch.tensor([1, 0, 1, 0]), sessions)
    expected = getattr(estimators, name)(batch, replace(OPENRLHF, **node), memory=memory)
    torch.testing.assert_close(actual, (expected.advantages, expected.returns))
    assert context.memory == memory and memory != Memory()
    assert context.metrics == pytest.approx(expected.metrics)
    assert current_context() is None
