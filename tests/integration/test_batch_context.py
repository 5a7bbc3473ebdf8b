"""What our trainer reads from a batch: sessions, non-finite rows, lengths and KL."""

import pytest
import torch

from reinforcepp_verl.algorithm.batch import NonFiniteRewardError
from reinforcepp_verl.integration.batch_context import PaddingAwareKL, non_finite_rows, response_metrics, session_index

NAN, INF = float("nan"), float("inf")


def rows(**changed):
    tensors = {
        "response_mask": torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 0], [1, 0, 1]]),
        "rm_scores": torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]),
        "old_log_probs": torch.tensor([[-1.0, -1.0, 9.0], [-2.0, -2.0, -2.0], [0.0, 0.0, 0.0], [-1.0, 5.0, -1.0]]),
        "rollout_log_probs": torch.zeros(4, 3),
        "ref_log_prob": torch.tensor([[-1.5, -1.0, 0.0], [-2.0, -3.0, -2.0], [0.0, 0.0, 0.0], [-1.0, 0.0, -1.0]]),
    }
    return tensors | changed


def test_sessions_come_from_verls_row_keys():
    keys = ["a-1_0_0", "a-1_0_1", "a-1_1_0", "b_0_0", "a-1_0_2", "pad7_0_0", "pad7_1_0"]
    index = session_index(keys).tolist()
    assert index[0] == index[1] == index[4]
    assert len(set(index)) == 5


def test_lengths_kl_and_reward_per_kl():
    metrics = response_metrics(rows())
    assert metrics["reinforcepp/length_right"] == 2
    assert metrics["reinforcepp/length_wrong"] == 2.5  # the padding row is not an answer
    assert metrics["reinforcepp/kl"] == pytest.approx((0.5 + 1.0) / 7)
    assert metrics["reinforcepp/reward_per_kl"] == pytest.approx((1 / 3) / (1.5 / 3))


def test_without_reference_or_kl_there_is_no_reward_per_kl():
    without = rows()
    del without["ref_log_prob"]
    assert set(response_metrics(without)) == {"reinforcepp/length_right", "reinforcepp/length_wrong"}
    equal = rows(ref_log_prob=rows()["old_log_probs"])
    assert "reinforcepp/reward_per_kl" not in response_metrics(equal) and response_metrics(equal)["reinforcepp/kl"] == 0


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize(
    ("name", "position", "is_bad"),
    [
        ("rm_scores", (0, 1), True),
        ("rm_scores", (0, 2), True),  # verl puts the score on the last position, masked or not
        ("rollout_log_probs", (1, 2), True),
        ("ref_log_prob", (1, 0), True),
        ("old_log_probs", (0, 2), False),
        ("rm_scores", (3, 1), False),  # masked tokens in between
        ("rm_scores", (2, 2), False),  # a row without a valid token is ignored
    ],
)
def test_rows_with_a_non_finite_value_that_counts(name, position, is_bad, bad):
    tensors = rows()
    tensors[name] = tensors[name].clone()
    tensors[name][position] = bad
    assert non_finite_rows(tensors).tolist() == [is_bad and i == position[0] for i in range(4)]


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_policy_with_nan_log_probs_stops_the_run_whatever_the_option(bad):
    tensors = rows()
    tensors["old_log_probs"][1, 2] = bad
    with pytest.raises(NonFiniteRewardError, match="the policy gives 1 of 4 answers .* the model is broken"):
        non_finite_rows(tensors)


def test_padding_rows_do_not_affect_the_kl_controller():
    from verl.trainer.ppo.core_algos import AdaptiveKLController

    alone, diluted = (AdaptiveKLController(init_kl_coef=0.1, target_kl=0.2, horizon=100) for _ in range(2))
    alone.update(current_kl=0.3, n_steps=2)
    wrapped = PaddingAwareKL(diluted)
    wrapped.real_rows = 2
    wrapped.update(current_kl=0.15, n_steps=4)  # two answers at 0.3 and two padding rows at 0
    assert wrapped.value == alone.value != 0.1
    wrapped.real_rows = 0
    wrapped.update(current_kl=0.0, n_steps=4)
    assert wrapped.value == alone.value
