"""The signature of policy losses that verl calls: masks, weights, aggregation, metrics and options."""

from dataclasses import dataclass

import pytest
import torch
from verl.workers.config import FSDPActorConfig

from reinforcepp_verl.algorithm.losses import LossTerms
from reinforcepp_verl.algorithm.registry import LOSSES, RegisteredLoss
from reinforcepp_verl.integration.loss_adapter import loss_for_verl
from reinforcepp_verl.integration.policy_loss_config import PolicyLossWithOptions

NAN = float("nan")
OLD = torch.tensor([[0.5, 0.5, 0.5, 0.1]]).log()
NEW = torch.tensor([[0.7, 0.3, 0.55, 0.9]]).log()
ADVANTAGES = torch.tensor([[1.0, 1.0, -1.0, -1.0]])
ALL_VALID = torch.ones(1, 4, dtype=torch.bool)


def actor(**keys):
    ours = {"clip_ratio_low": None, "clip_ratio_high": None, "clip_ratio_c": None}  # as our base YAML sets them
    return FSDPActorConfig(rollout_n=1, ppo_micro_batch_size_per_gpu=1, **{**ours, **keys})


def policy_loss(
    config, log_prob=NEW, old_log_prob=OLD, advantages=ADVANTAGES, mask=ALL_VALID, name="reinforcepp", **keys
):
    return loss_for_verl(name)(
        old_log_prob=old_log_prob,
        log_prob=log_prob,
        advantages=advantages,
        response_mask=mask,
        config=config,
        **keys,
    )


def test_clip_bounds_fall_back_to_clip_ratio():
    loss, metrics = policy_loss(actor(clip_ratio=0.1))
    assert loss.item() == pytest.approx((-1.1 - 0.6 + 1.1 + 9.0) / 4)
    assert metrics == {
        "actor/pg_clipfrac": 0.25,
        "actor/ppo_kl": pytest.approx((OLD - NEW).mean().item()),
        "actor/pg_clipfrac_lower": 0.0,
        "actor/clip_fraction_low": 0.0,
        "actor/clip_fraction_high": 0.25,
        "actor/ratio_max": pytest.approx(9.0),
        "actor/zero_weight_tokens": 0.0,
    }
    loss, _ = policy_loss(actor(clip_ratio=0.1, clip_ratio_low=0.0, clip_ratio_high=0.3))
    assert loss.item() == pytest.approx((-1.3 - 0.6 + 1.1 + 9.0) / 4)
    loss, _ = policy_loss(actor(clip_ratio=0.1, clip_ratio_low=0.0), advantages=-torch.ones(1, 4))
    assert loss.item() == pytest.approx((1.4 + 1.0 + 1.1 + 9.0) / 4)  # 0 is a bound, not a missing one


def test_clip_fractions_tell_the_two_bounds_apart():
    ratio = torch.tensor([[1.5, 0.5, 1.5, 0.5]])
    advantages = torch.tensor([[1.0, 1.0, -1.0, -1.0]])
    _, metrics = policy_loss(actor(clip_ratio=0.2), ratio.log(), torch.zeros(1, 4), advantages)
    assert (metrics["actor/clip_fraction_high"], metrics["actor/clip_fraction_low"]) == (0.25, 0.25)
    assert metrics["actor/ratio_max"] == pytest.approx(1.5)


def test_dual_clip_is_off_when_null():
    assert policy_loss(actor())[0].item() == pytest.approx(2.075)
    loss, metrics = policy_loss(actor(clip_ratio_c=3.0))
    assert loss.item() == pytest.approx(0.575)
    assert metrics["actor/pg_clipfrac"] == metrics["actor/pg_clipfrac_lower"] == 0.25


@pytest.mark.parametrize("bound", [1.0, 0.5, -3.0, NAN])
def test_dual_clip_must_exceed_one(bound):
    with pytest.raises(ValueError, match=r"actor_rollout_ref\.actor\.clip_ratio_c"):
        policy_loss(actor(clip_ratio_c=bound))


def test_rollout_weights_scale_each_token_after_clipping():
    weights = torch.tensor([[2.0, 1.0, 0.5, 0.0]])
    loss, metrics = policy_loss(actor(), rollout_is_weights=weights)
    assert metrics["actor/zero_weight_tokens"] == 0.25
    assert loss.item() == pytest.approx((-2.4 - 0.6 + 0.55) / 4)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("token-mean", 22 / 6),
        ("token-sum", 22.0),
        ("seq-mean-token-sum", 22 / 3),
        ("seq-mean-token-mean", (1.5 + 4 + 7) / 3),
        ("seq-mean-token-sum-norm", 22 / 9),
    ],
)
def test_aggregation_modes(mode, expected):
    # OpenRLHF's example; on policy the loss of a token is minus its advantage.
    token_loss = torch.tensor([[1.0, 2.0, 0.0], [3.0, 4.0, 5.0], [7.0, 0.0, 0.0]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [1, 0, 0]])
    zeros = torch.zeros(3, 3)
    loss, _ = policy_loss(actor(), zeros, zeros, -token_loss, mask, loss_agg_mode=mode)
    assert loss.item() == pytest.approx(expected)


MODES = ["token-mean", "token-sum", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bad", [NAN, float("inf")])
def test_non_finite_masked_values_reach_neither_loss_nor_gradient(mode, bad):
    mask = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0]])
    log_prob, old, advantages, weights = (
        torch.where(mask.bool(), x.expand(2, 4), bad) for x in (NEW, OLD, ADVANTAGES, torch.ones(1, 4))
    )
    log_prob.requires_grad_()
    loss, metrics = policy_loss(
        actor(), log_prob, old, advantages, mask, rollout_is_weights=weights, loss_agg_mode=mode
    )
    loss.backward()
    assert loss.isfinite() and log_prob.grad.isfinite().all()
    assert not log_prob.grad[~mask.bool()].any() and log_prob.grad[0, 2:].all()
    assert metrics["actor/pg_clipfrac"] == pytest.approx(1 / 3)
    assert metrics["actor/ppo_kl"] == pytest.approx((OLD - NEW)[mask[:1].bool()].mean().item())


@pytest.mark.parametrize("mode", MODES)
def test_micro_batch_without_valid_token_has_zero_loss_and_gradient(mode):
    log_prob = NEW.clone().requires_grad_()
    loss, metrics = policy_loss(actor(), log_prob, mask=torch.zeros(1, 4), loss_agg_mode=mode)
    loss.backward()
    assert loss.item() == 0.0 and not log_prob.grad.any()
    assert set(metrics.values()) == {0.0}


@dataclass
class Penalty:
    weight: float = 0.5
    squared: bool = False

    def __post_init__(self):
        if self.weight < 0:
            raise ValueError(f"weight is {self.weight}: it must be >= 0")


def penalized(batch, options):
    moved = batch.log_prob - batch.old_log_prob
    penalty = moved.square() if options.squared else moved.abs()
    loss = -batch.advantages * moved.exp() + options.weight * penalty
    return LossTerms(loss, {"mine/penalty": penalty, "mine/largest": penalty.max().item()})


@pytest.fixture
def registered(monkeypatch):
    """Return a function that registers a loss for the time of one test."""

    def register(function=penalized, options=Penalty):
        monkeypatch.setitem(LOSSES, "mine", RegisteredLoss("mine", function, options))

    return register


def with_options(**options):
    return actor(policy_loss=PolicyLossWithOptions(loss_mode="mine", options=options))


def test_a_loss_gets_its_own_options_and_its_metrics_are_averaged(registered):
    registered()
    moved = NEW - OLD
    loss, metrics = policy_loss(with_options(weight=2.0, squared=True), name="mine")
    assert loss.item() == pytest.approx((-ADVANTAGES * moved.exp() + 2 * moved.square()).mean().item())
    assert metrics["mine/penalty"] == pytest.approx(moved.square().mean().item())
    assert metrics["mine/largest"] == pytest.approx(moved.square().max().item())
    assert metrics["actor/zero_weight_tokens"] == 0
    # Under verl's own configuration, whose node has no room for options, they are the defaults.
    loss, _ = policy_loss(actor(), name="mine")
    assert loss.item() == pytest.approx((-ADVANTAGES * moved.exp() + 0.5 * moved.abs()).mean().item())


def test_the_adapter_handles_masks_weights_and_the_global_batch(registered):
    registered()
    mask = torch.tensor([[1, 0, 1, 0]]).bool()
    log_prob = torch.where(mask, NEW, NAN).requires_grad_()
    config = actor(global_batch_info={"dp_size": 2, "batch_num_tokens": 8})
    weights = torch.tensor([[2.0, NAN, 0.0, NAN]])
    loss, metrics = policy_loss(config, log_prob, mask=mask, name="mine", rollout_is_weights=weights)
    loss.backward()
    assert loss.item() == pytest.approx(2 * (-1.4 + 0.5 * (NEW - OLD)[0, 0].item()) * 2 / 8)
    assert metrics["actor/zero_weight_tokens"] == 0.5
    assert log_prob.grad.isfinite().all() and log_prob.grad.count_nonzero() == 1


def test_a_loss_at_masked_tokens_is_ignored(registered):
    def infinite_where_nothing_moved(batch, options):
        return LossTerms(1 / (batch.log_prob - batch.old_log_prob))

    registered(infinite_where_nothing_moved)
    log_prob = NEW.clone().requires_grad_()
    loss, _ = policy_loss(actor(), log_prob, mask=torch.tensor([[1, 1, 0, 0]]), name="mine")
    loss.backward()
    assert loss.isfinite() and log_prob.grad.isfinite().all()


def test_a_loss_that_aggregates_by_itself_is_refused(registered):
    registered(lambda batch, options: LossTerms(batch.log_prob.mean()))
    with pytest.raises(ValueError, match=r"mine returned a loss of shape \(\): .*one value per token, \(1, 4\)"):
        policy_loss(actor(), name="mine")


OPTIONS = "actor_rollout_ref.actor.policy_loss.options"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"wieght": 1.0}, rf"{OPTIONS}\.wieght: unknown key \(did you mean weight\?\); valid keys: weight, squared"),
        ({"weight": "much"}, rf"{OPTIONS}\.weight: .*it must be a float"),
        ({"weight": -1}, rf"{OPTIONS}: weight is -1\.0: it must be >= 0"),
    ],
)
def test_options_are_read_strictly_when_the_actor_is_created(registered, options, says):
    registered()
    with pytest.raises(ValueError, match=says):
        with_options(**options)


def test_options_that_nothing_reads_are_refused():
    with pytest.raises(ValueError, match="options.x: unknown key; valid keys: none"):
        PolicyLossWithOptions(loss_mode="reinforcepp", options={"x": 1})
    with pytest.raises(ValueError, match="loss_mode is vanilla, which does not read it"):
        PolicyLossWithOptions(loss_mode="vanilla", options={"x": 1})
    assert PolicyLossWithOptions(loss_mode="vanilla").options == {}
