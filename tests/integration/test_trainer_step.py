"""verl's own `_compute_advantage` inside our trainer, on a queue in memory: what it passes on and what it repairs."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict
from tensordict.tensorclass import NonTensorStack
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.core_algos import AdaptiveKLController
from verl.trainer.ppo.v1 import trainer_base

from reinforcepp_verl.algorithm.batch import NonFiniteRewardError, RewardBatch, ScorePlacementError
from reinforcepp_verl.algorithm.estimators import reinforcepp
from reinforcepp_verl.algorithm.moments import Memory
from reinforcepp_verl.algorithm.options import ReinforceppOptions
from reinforcepp_verl.config.nodes import read_rollout_gate
from reinforcepp_verl.config.reward_error_options import RewardErrorOptions
from reinforcepp_verl.integration import reward_errors, rollout_gating, score_columns, trainers
from reinforcepp_verl.integration.batch_context import PaddingAwareKL
from reinforcepp_verl.integration.reward_errors import RewardErrorMonitor, RewardFailureError

# A session of two rows, one of one row, an answer to another prompt, and a padding row.
KEYS = ["a_0_0", "a_0_1", "a_1_0", "b_0_0", "padf_0_0"]
UIDS = ["a", "a", "a", "b", "padf"]
TAGS = [{}, {}, {}, {}, {"is_padding": True}]
# One of the three answers could not be scored; verl copies the flags of an answer into the padding row.
FINE, FAILED = {"reward_error": 0.0, "reward_timeout": 0.0}, {"reward_error": 1.0, "error": "error: E: boom"}
REPORTS = [FAILED, FAILED, FINE, FINE, FAILED]
LENGTHS = [3, 2, 2, 3, 1]
SCORES = [[0.0, 0.0, 30.0], [0.0, 30.0], [0.0, 0.0], [0.0, 0.0, 1.0], [0.0]]
MASKS = [[1, 1, 1], [1, 1], [1, 1], [1, 0, 1], [0]]
OBJECTS = {"uid": UIDS, "extra_fields": [{"reward_extra_info": report} for report in REPORTS]}
BETA, GAP = 0.1, 0.5
OPTIONS = {"population": "sample"}
REJECTION = {
    "rollout_is": None,
    "rollout_is_threshold": 2.0,
    "rollout_rs": "token_k1",
    "rollout_rs_threshold": "0.5_2.0",
    "bypass_mode": False,
    "loss_type": "ppo_clip",
    "rollout_is_batch_normalize": False,
}


class Queue:
    """A TransferQueue of ragged rows."""

    def __init__(self, fields):
        self.fields, self.objects = fields, OBJECTS

    def kv_batch_get(self, keys, partition_id, select_fields):
        assert keys == KEYS
        names = [name for name in select_fields if name in self.fields]
        found = {name: nested(self.fields[name]) for name in names if name not in self.objects}
        found |= {name: NonTensorStack(*self.objects[name]) for name in names if name in self.objects}
        return TensorDict(found, batch_size=len(KEYS))

    def kv_batch_put(self, keys, partition_id, fields):
        assert keys == KEYS
        for name, values in fields.items():
            self.fields[name] = list(values.unbind())
        return KVBatchMeta(keys=keys, tags=[{}] * len(keys), partition_id=partition_id)


def nested(rows):
    return torch.nested.as_nested_tensor([row.clone() for row in rows], layout=torch.jagged)


@pytest.fixture
def queue(monkeypatch):
    def ragged(value):
        return [torch.full((length,), value) for length in LENGTHS]

    made = Queue(
        {
            **OBJECTS,
            "rm_scores": [torch.tensor(row) for row in SCORES],
            "response_mask": [torch.tensor(row) for row in MASKS],
            "loss_mask": [torch.tensor(row) for row in MASKS],
            "old_log_probs": ragged(-1.0),
            "ref_log_prob": ragged(-1.0 - GAP),
            "rollout_log_probs": ragged(-1.0),
        }
    )
    for module in (trainer_base, trainers, reward_errors, rollout_gating, score_columns):
        monkeypatch.setattr(module, "tq", made)
    return made


def compute(queue, greedy_scores=None, **algorithm):
    """Run one step's advantage computation; return the trainer and the metrics."""
    ours = trainers.ReinforceppSync.__new__(trainers.ReinforceppSync)
    node = {
        "adv_estimator": "reinforcepp",
        "gamma": 1.0,
        "lam": 1.0,
        "use_kl_in_reward": True,
        "kl_penalty": "kl",
        "reinforcepp": OPTIONS,
        "rollout_correction": None,
        **algorithm,
    }
    ours.config = OmegaConf.create({"algorithm": node, "actor_rollout_ref": {"rollout": {"n": 2}}})
    ours.options, ours.estimator_is_registered, ours.memory = ReinforceppOptions(**OPTIONS), True, Memory()
    ours.error_monitor = RewardErrorMonitor(RewardErrorOptions())
    ours.kl_ctrl_in_reward = PaddingAwareKL(AdaptiveKLController(init_kl_coef=BETA, target_kl=0.1, horizon=100))
    ours.rollout_gate = read_rollout_gate(ours.config)
    ours.replay_buffer = SimpleNamespace(greedy_scores=greedy_scores)
    metrics = {}
    ours._compute_advantage(KVBatchMeta(keys=KEYS, tags=TAGS, partition_id="train"), metrics)
    return ours, metrics


def test_scores_without_kl_sessions_and_groups_reach_the_estimator(queue):
    _, metrics = compute(queue)
    pad = torch.nn.utils.rnn.pad_sequence
    scores = pad([torch.tensor(row) for row in SCORES], batch_first=True)
    mask = pad([torch.tensor(row) for row in MASKS], batch_first=True)
    batch = RewardBatch(
        scores,
        mask,
        BETA * GAP * mask,
        torch.tensor([0, 0, 0, 1, 2]),
        torch.tensor([0, 0, 1, 2, 3]),
    )
    expected = reinforcepp(batch, ReinforceppOptions(**OPTIONS))
    for name, wanted in (("advantages", expected.advantages), ("returns", expected.returns)):
        got = pad(queue.fields[name], batch_first=True)
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
    # 30 is clipped to 10 before the KL of two tokens still to come is taken off: the clip is on the score.
    assert queue.fields["returns"][0][1].item() == pytest.approx(10 - 2 * BETA * GAP)
    assert metrics["reinforcepp/clipped_rewards"] == pytest.approx(1 / 3)  # one session of three
    assert metrics["reinforcepp/dropped_rows/sum"] == 0
    assert metrics["reinforcepp/kl"] == pytest.approx(GAP)


def test_remax_subtracts_the_score_of_the_greedy_answer(queue, monkeypatch):
    monkeypatch.setattr(queue, "fields", {**queue.fields, "old_log_probs": queue.fields["ref_log_prob"]})
    trainer, metrics = compute(
        queue, adv_estimator="greedy_baseline", reinforcepp={}, greedy_scores={"a": 20.0, "b": 0.25}
    )
    advantages = [row.tolist() for row in queue.fields["advantages"]]
    assert advantages == [[10.0] * 3, [10.0] * 2, [-20.0] * 2, [0.75, 0.0, 0.75], [0.0]]
    assert metrics["reinforcepp/rows_without_greedy_answer/sum"] == 0
    _, metrics = compute(queue, adv_estimator="greedy_baseline", reinforcepp={}, greedy_scores={"b": 0.25})
    assert metrics["reinforcepp/rows_without_greedy_answer/sum"] == 3
    with pytest.raises(ValueError, match="none of the 1 greedy answers belongs to a prompt of the batch"):
        compute(queue, adv_estimator="greedy_baseline", reinforcepp={}, greedy_scores={"z": 0.25})
    with pytest.raises(NonFiniteRewardError, match="greedy answers to 1 of 2 prompts have a NaN"):
        compute(queue, adv_estimator="greedy_baseline", reinforcepp={}, greedy_scores={"a": float("nan"), "b": 1.0})


@pytest.mark.parametrize("importance", [None, "token"])
@pytest.mark.parametrize(("level", "kept"), [("token", [1, 0, 1]), ("answer", [0, 0, 0])])
def test_a_gate_drops_tokens_from_the_loss_and_leaves_the_others_their_weight(queue, importance, level, kept):
    # The engine gave the second token of the first answer half the trainer's probability, all others the same.
    queue.fields["rollout_log_probs"][0] = torch.tensor([-1.0, -1.0 - float(np.log(2)), -1.0])
    correction = {**REJECTION, "rollout_is": importance, "rollout_is_threshold": 1e6, "rollout_rs": None}
    gate = {"divergence": "binary_kl", "level": level, "limit": 0.003}
    before = [mask.clone() for mask in queue.fields["response_mask"]]
    _, metrics = compute(queue, rollout_correction=correction, rollout_gate=gate)
    weights = queue.fields["rollout_is_weights"]
    torch.testing.assert_close(weights[0], torch.tensor(kept, dtype=torch.float32))
    for row, mask in zip(weights[1:4], MASKS[1:4], strict=True):
        torch.testing.assert_close(row, torch.tensor(mask, dtype=torch.float32))
    assert all(torch.equal(*pair) for pair in zip(queue.fields["response_mask"], before, strict=True)), "denominators"
    assert metrics["reinforcepp/gated_tokens"] == pytest.approx((3 - sum(kept)) / 9)
    p, q = np.exp(-1) / 2, np.exp(-1)
    binary_kl = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    assert metrics["reinforcepp/rollout_divergence"] == pytest.approx(binary_kl / 9, rel=1e-5)


def with_token_scores(queue, **pairs):
    """Let the reward manager report scores of tokens for the rows named by their keys."""
    reports = [{"reward_extra_info": {**FINE, "token_scores": pairs.get(key)}} for key in KEYS]
    queue.objects = OBJECTS | {"extra_fields": reports}


def test_scores_of_tokens_reach_the_queue_and_the_estimator(queue):
    reported = {"a_1_0": [(0, 0.0), (1, 1.0)], "b_0_0": [(1, 2.0)], "padf_0_0": [(3, 1.0)]}
    queue.fields["rm_scores"][:2] = [torch.zeros(3), torch.zeros(2)]
    with_token_scores(queue, **reported)
    _, metrics = compute(queue, adv_estimator="reinforcepp_baseline", use_kl_in_reward=False)
    assert [row.tolist() for row in queue.fields["rm_scores"][2:]] == [[0.0, 1.0], [0.0, 2.0, 0.0], [0.0]]
    assert [row.tolist() for row in queue.fields["score_mask"]] == [
        [False] * 3,
        [False] * 2,
        [True, True],
        [False, True, False],
        [False],
    ]
    # An outcome of 0 of the first session, and 0, 1 of the second: the mean of three scores is 1/3.
    for row, expected in enumerate(([-1 / 3] * 3, [-1 / 3] * 2, [1 / 3, 2 / 3])):
        torch.testing.assert_close(queue.fields["returns"][row], torch.tensor(expected))
    assert metrics["reinforcepp/moved_scores/sum"] == 1, "the 2 of prompt b is on the output of a tool"


def test_scores_of_tokens_of_a_session_with_several_rows_are_refused(queue):
    with_token_scores(queue, a_0_0=[(0, 1.0)], a_0_1=[(0, 1.0)])
    with pytest.raises(ValueError, match="session a_0 has several rows.*return score"):
        compute(queue)


def test_scores_of_tokens_and_marks_of_an_agent_loop_are_refused(queue):
    queue.fields["score_mask"] = [torch.tensor(mask) for mask in MASKS]
    with_token_scores(queue, b_0_0=[(0, 1.0)])
    with pytest.raises(ValueError, match="answer b_0_0 has token_scores .* and score_mask of the agent loop"):
        compute(queue)


@pytest.mark.parametrize("marks", [[0, 1], [0, 1, 0, 1]])
def test_marks_of_another_length_than_the_answer_are_refused(queue, marks):
    queue.fields["score_mask"] = [torch.tensor(mask) for mask in [*MASKS[:3], marks, [0, 0]]]
    with pytest.raises(ValueError, match=f"answer b_0_0 has 3 tokens, but score_mask has {len(marks)} values"):
        compute(queue)
    queue.fields["score_mask"][3] = torch.tensor([0, 0, 1])
    compute(queue)


def test_the_score_of_a_rejected_start_is_dropped_and_any_other_start_refused(queue):
    with_token_scores(queue, b_0_0=[(0, 1.0), (2, 2.0)])
    queue.fields["rollout_log_probs"][3] = torch.tensor([-9.0, -1.0, -1.0])
    _, metrics = compute(queue, rollout_correction=REJECTION, use_kl_in_reward=False)
    assert [row.tolist() for row in queue.fields["response_mask"]][3] == [0, 0, 1]
    assert queue.fields["returns"][3].tolist() == [0.0, 0.0, 2.0]
    assert metrics["reinforcepp/moved_scores/sum"] == 0
    queue.fields["response_mask"][3] = torch.tensor([0, 1, 1])
    del queue.fields["score_mask"]
    with pytest.raises(ScorePlacementError, match="row 3 has a score before its first valid token"):
        compute(queue, use_kl_in_reward=False)


def test_a_validation_does_not_average_the_scores_of_tokens(queue):
    ours = trainers.ReinforceppSync.__new__(trainers.ReinforceppSync)
    ours.validation_error_monitor = RewardErrorMonitor(RewardErrorOptions())
    columns = {"reward": [1.0, 0.0], "token_scores": [[(0, 1.0)], [(0, 0.0), (1, 0.0)]]}
    metrics = ours._val_metrics_update(["math"] * 2, ["a", "b"], columns, [], expected_acc_counts={})
    assert metrics["val-core/math/reward/mean@1"] == 0.5
    assert not any("token_scores" in name for name in metrics)


def test_the_padding_row_affects_neither_the_kl_metric_nor_the_controller(queue):
    ours, metrics = compute(queue)
    assert metrics["actor/reward_kl_penalty"] == pytest.approx(GAP)
    alone = AdaptiveKLController(init_kl_coef=BETA, target_kl=0.1, horizon=100)
    alone.update(current_kl=GAP, n_steps=4)
    assert ours.kl_ctrl_in_reward.value == pytest.approx(alone.value)


def test_a_rejection_reaches_the_mask_that_verl_divides_by(queue):
    queue.fields["rollout_log_probs"][3] = torch.tensor([-9.0, -1.0, -1.0])
    _, metrics = compute(queue, rollout_correction=REJECTION)
    assert [row.tolist() for row in queue.fields["response_mask"]] == [*MASKS[:3], [0, 0, 1], [0]]
    assert [row.tolist() for row in queue.fields["loss_mask"]] == [*MASKS[:3], [0, 0, 1], [0]]
    assert metrics["reinforcepp/rejected_tokens"] == pytest.approx(1 / 9)


def test_rates_are_over_answers_not_rows(queue):
    _, metrics = compute(queue)
    assert metrics["reward/error_rate"] == pytest.approx(1 / 3)
    assert metrics["reward/timeout_rate"] == 0.0
    assert "reward/no_answer_rate" not in metrics, "the reward function says nothing about it"


def test_too_many_errors_stop_the_step_under_any_estimator(queue):
    for registered in (True, False):
        stopped = trainers.ReinforceppSync.__new__(trainers.ReinforceppSync)
        stopped.estimator_is_registered = registered
        stopped.error_monitor = RewardErrorMonitor(RewardErrorOptions(min_count=1))
        with pytest.raises(RewardFailureError, match="1 of 3 answers could not be scored.*the first: E: boom; correct"):
            stopped._compute_advantage(KVBatchMeta(keys=KEYS, tags=TAGS, partition_id="train"), {})


def test_too_many_errors_stop_a_validation_too(queue):
    stopped = trainers.ReinforceppSync.__new__(trainers.ReinforceppSync)
    stopped.validation_error_monitor = RewardErrorMonitor(RewardErrorOptions(min_count=2))
    columns = {"reward": [0.0, 0.0, 1.0], "reward_error": [1.0, 1.0, 0.0], "error": ["error: E: boom", "timeout", None]}
    with pytest.raises(RewardFailureError, match="2 of 3 answers"):
        stopped._val_metrics_update(["math"] * 3, ["a", "b", "c"], columns, [])
    del columns["error"], columns["reward_error"]
    metrics = stopped._val_metrics_update(["math"] * 3, ["a", "b", "c"], columns, [], expected_acc_counts={})
    assert metrics["val-core/math/reward/mean@1"] == pytest.approx(1 / 3)


def test_a_validation_without_errors_does_not_excuse_those_of_training(queue):
    ours = trainers.ReinforceppSync.__new__(trainers.ReinforceppSync)
    ours.error_monitor = RewardErrorMonitor(RewardErrorOptions(min_count=2))
    ours.validation_error_monitor = RewardErrorMonitor(RewardErrorOptions(min_count=2))
    fine = {"reward": [1.0], "reward_error": [0.0], "error": [None]}
    ours.error_monitor.update([FAILED, FINE])
    ours._val_metrics_update(["math"], ["a"], fine, [], expected_acc_counts={})
    ours.estimator_is_registered = False
    with pytest.raises(RewardFailureError, match="1 of 3 answers"):
        ours._compute_advantage(KVBatchMeta(keys=KEYS, tags=TAGS, partition_id="train"), {})


def test_an_unregistered_estimator_is_left_to_verl_but_for_metrics_of_the_answers(queue):
    ours = trainers.ReinforceppSync.__new__(trainers.ReinforceppSync)
    node = {"adv_estimator": "rloo", "gamma": 1.0, "lam": 1.0, "use_kl_in_reward": False, "rollout_correction": None}
    ours.config = OmegaConf.create({"algorithm": node, "actor_rollout_ref": {"rollout": {"n": 2}}})
    ours.estimator_is_registered, metrics = False, {}
    ours.error_monitor = RewardErrorMonitor(RewardErrorOptions())
    ours._compute_advantage(KVBatchMeta(keys=KEYS, tags=TAGS, partition_id="train"), metrics)
    ours_of_answers = {"kl", "reward_per_kl", "length_right", "length_wrong"}
    assert {name for name in metrics if name.startswith("reinforcepp/")} == {
        f"reinforcepp/{n}" for n in ours_of_answers
    }
    assert metrics["reinforcepp/kl"] == pytest.approx(GAP)
    assert metrics["reward/error_rate"] == pytest.approx(1 / 3)
    assert np.isfinite(torch.cat(queue.fields["advantages"]).numpy()).all()
