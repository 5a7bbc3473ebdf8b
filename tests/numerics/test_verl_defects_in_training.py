"""The defects B11 to B14 of verl 0.9.1 in speed, loss and trainer, one test each; B1 to B10: test_verl_defects.py."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from torch.utils._python_dispatch import TorchDispatchMode
from transfer_queue import KVBatchMeta
from verl import DataProto
from verl.trainer.ppo.core_algos import (
    FixedKLController,
    agg_loss,
    compute_policy_loss_vanilla,
    compute_reinforce_plus_plus_outcome_advantage,
)
from verl.trainer.ppo.ray_trainer import apply_kl_penalty
from verl.workers.config import FSDPActorConfig

from reinforcepp_verl.algorithm.moments import Memory
from reinforcepp_verl.algorithm.registry import ESTIMATORS
from reinforcepp_verl.integration import batch_context, trainers
from reinforcepp_verl.integration.estimator_adapter import estimator_for_verl
from reinforcepp_verl.integration.loss_adapter import loss_for_verl
from reinforcepp_verl.integration.row_totals import response_metrics, row_totals

reinforcepp_policy_loss = loss_for_verl("reinforcepp")

OLD = torch.tensor([[0.5, 0.5, 0.5, 0.1]]).log()
NEW = torch.tensor([[0.7, 0.3, 0.55, 0.9]]).log()
ADVANTAGES = torch.tensor([[1.0, 1.0, -1.0, -1.0]])


class CountOperations(TorchDispatchMode):
    """Counts the tensor operations that Python starts."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def operations(estimator, length, gamma, kl):
    """Count for 8 rows of `length` tokens, every fifth of them masked."""
    generator = torch.Generator().manual_seed(length)
    scores = torch.zeros(8, length)
    scores[:, -1] = torch.arange(8.0)
    mask = (torch.arange(length) % 5 > 0).long().expand(8, length).clone()
    mask[:, -1] = 1
    penalty = 1e-3 * torch.randn(8, length, generator=generator) * kl
    config = OmegaConf.create({"gamma": gamma, "use_kl_in_reward": kl})
    uids = np.array(list("ppqqrrss"), dtype=object)
    with (
        batch_context.use_context(
            batch_context.BatchContext(scores, torch.arange(8), Memory(), greedy_score=torch.zeros(8))
        ),
        CountOperations() as counter,
    ):
        estimator(token_level_rewards=scores - penalty, response_mask=mask, config=config, index=uids)
    return counter.count


@pytest.mark.parametrize(
    ("name", "gamma"), [(name, 1.0) for name in ESTIMATORS] + [("reinforcepp", 0.99), ("reinforce_reward_to_go", 0.99)]
)
@pytest.mark.parametrize("kl", [False, True])
def test_b11_python_loops_over_the_tokens(name, gamma, kl):
    builtin = compute_reinforce_plus_plus_outcome_advantage
    assert operations(builtin, 512, gamma, kl) - operations(builtin, 64, gamma, kl) >= 4 * (512 - 64)
    assert operations(estimator_for_verl(name), 512, gamma, kl) == operations(estimator_for_verl(name), 64, gamma, kl)


def loss_value(loss_fn, **keys):
    config = FSDPActorConfig(rollout_n=1, ppo_micro_batch_size_per_gpu=1, **keys)
    valid = torch.ones(1, 4, dtype=torch.bool)
    loss, _ = loss_fn(OLD, NEW, ADVANTAGES, valid, "token-mean", config)
    return loss.item()


def test_b12_clip_ratio_alone_has_no_effect_and_the_dual_clip_is_always_on():
    assert loss_value(compute_policy_loss_vanilla) == pytest.approx(0.575)
    assert loss_value(compute_policy_loss_vanilla, clip_ratio=0.05) == pytest.approx(0.575)
    with pytest.raises(TypeError):
        loss_value(compute_policy_loss_vanilla, clip_ratio_c=None)
    base = {"clip_ratio_low": None, "clip_ratio_high": None, "clip_ratio_c": None}  # as our base YAML sets them
    assert loss_value(reinforcepp_policy_loss, **base) == pytest.approx(2.075)
    assert loss_value(reinforcepp_policy_loss, **base | {"clip_ratio_c": 3.0}) == pytest.approx(0.575)
    tight = (-1.05 - 0.6 + 1.1 + 9.0) / 4
    assert loss_value(reinforcepp_policy_loss, **base, clip_ratio=0.05) == pytest.approx(tight)


def test_b13_rejected_tokens_stay_in_the_denominator_of_the_token_mean(monkeypatch):
    lengths = [4, 2, 3]
    before = [torch.ones(n, dtype=torch.long) for n in lengths]
    after = [torch.tensor([1, 0, 0, 1]), torch.tensor([0, 0]), torch.tensor([1, 1, 1])]
    # verl sets loss_mask once, from the mask as it comes from the rollout; rejection rewrites only response_mask.
    masks = {"loss_mask": before, "response_mask": after}
    queue = {name: torch.nested.as_nested_tensor(mask, layout=torch.jagged) for name, mask in masks.items()}
    batch = KVBatchMeta(keys=["a_0_0", "a_1_0", "b_0_0"], tags=[{}] * 3, partition_id="train")

    def get(keys, partition_id, select_fields):
        assert (keys, partition_id) == (batch.keys, "train")
        return TensorDict({name: queue[name] for name in select_fields}, batch_size=3)

    def put(keys, partition_id, fields):
        assert (keys, partition_id) == (batch.keys, "train")
        queue.update({name: fields[name] for name in fields.keys()})

    monkeypatch.setattr(trainers.tq, "kv_batch_get", get)
    monkeypatch.setattr(trainers.tq, "kv_batch_put", put)

    token_loss = torch.tensor([[1.0, 9.0, 9.0, 2.0], [9.0, 9.0, 0.0, 0.0], [3.0, 4.0, 5.0, 0.0]])
    accepted = queue["response_mask"].to_padded_tensor(0)

    def token_mean():
        # fsdp/transformer_impl.py: batch_num_tokens = data["loss_mask"].sum()
        tokens = queue["loss_mask"].sum().item()
        return agg_loss(token_loss, accepted, "token-mean", dp_size=1, batch_num_tokens=tokens).item()

    assert token_mean() == pytest.approx(15 / 9)
    rejected = trainers._exclude_rejected_tokens(batch, tokens_before=9)
    assert rejected == pytest.approx(4 / 9)
    assert token_mean() == pytest.approx(15 / 5)
    assert torch.equal(queue["loss_mask"].values(), torch.cat(after))
    assert torch.equal(queue["loss_mask"].offsets(), queue["response_mask"].offsets())


def metrics_of(rows):
    columns = {name: torch.nested.as_nested_tensor(list(values), layout=torch.jagged) for name, values in rows.items()}
    return response_metrics(row_totals(columns))


def test_b14_padding_rows_dilute_the_kl():
    # Two answers at 0.3 per token and two padding rows.
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [0, 0, 0], [0, 0, 0]])
    ref = torch.full((4, 3), -1.0)
    rows = {
        "response_mask": mask,
        "rm_scores": torch.zeros(4, 3),
        "old_log_probs": ref + 0.3,
        "ref_log_prob": ref,
    }
    data = DataProto.from_single_dict({**rows, "token_level_scores": rows["rm_scores"]})
    _, metrics = apply_kl_penalty(data, FixedKLController(1e-3), kl_penalty="kl")
    assert metrics["actor/reward_kl_penalty"] == pytest.approx(0.15)
    assert metrics_of(rows)["reinforcepp/kl"] == pytest.approx(0.3)
    assert metrics_of(rows)["reinforcepp/length_wrong"] == 2.5


def test_b14_the_reward_per_kl_counts_answers_only():
    rows = {
        "response_mask": torch.tensor([[1, 1], [1, 0], [0, 0]]),
        "rm_scores": torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]),
        "old_log_probs": torch.tensor([[0.2, 0.4], [0.3, 9.0], [9.0, 9.0]]),
        "ref_log_prob": torch.zeros(3, 2),
    }
    found = metrics_of(rows)
    assert found["reinforcepp/kl"] == pytest.approx(0.3)
    assert found["reinforcepp/reward_per_kl"] == pytest.approx(0.5 / 0.45)
