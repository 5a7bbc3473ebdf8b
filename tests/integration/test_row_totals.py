"""What our trainer reads from the rows of a batch: non-finite values, lengths, scores and KL."""

import pytest
import torch

from reinforcepp_verl.algorithm.batch import NonFiniteRewardError
from reinforcepp_verl.integration import row_totals as rows_module
from reinforcepp_verl.integration.row_totals import aligned, response_metrics, row_totals, without_rows

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


def jagged(tensors):
    offsets = torch.arange(5) * 3
    return {name: torch.nested.nested_tensor_from_jagged(t.flatten(), offsets) for name, t in tensors.items()}


def metrics_of(tensors):
    return response_metrics(row_totals(jagged(tensors)))


def test_lengths_kl_and_reward_per_kl():
    metrics = metrics_of(rows())
    assert metrics["reinforcepp/length_right"] == 2
    assert metrics["reinforcepp/length_wrong"] == 2.5  # the padding row is not an answer
    assert metrics["reinforcepp/kl"] == pytest.approx((0.5 + 1.0) / 7)
    assert metrics["reinforcepp/reward_per_kl"] == pytest.approx((1 / 3) / (1.5 / 3))


def test_without_reference_or_kl_there_is_no_reward_per_kl():
    without = rows()
    del without["ref_log_prob"]
    assert set(metrics_of(without)) == {"reinforcepp/length_right", "reinforcepp/length_wrong"}
    equal = rows(ref_log_prob=rows()["old_log_probs"])
    assert "reinforcepp/reward_per_kl" not in metrics_of(equal) and metrics_of(equal)["reinforcepp/kl"] == 0


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
    assert row_totals(jagged(tensors)).is_non_finite.tolist() == [is_bad and i == position[0] for i in range(4)]


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_policy_with_nan_log_probs_stops_the_run_whatever_the_option(bad):
    tensors = rows()
    tensors["old_log_probs"][1, 2] = bad
    with pytest.raises(NonFiniteRewardError, match="the policy gives 1 of 4 answers .* the model is broken"):
        row_totals(jagged(tensors))


@pytest.mark.parametrize("tokens", [1, 4, 7, 100])
def test_totals_do_not_depend_on_the_size_of_a_block(monkeypatch, tokens):
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([3, 1, 5, 2, 4, 1])
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
    values = {name: torch.randn(16, generator=generator) for name in ("rm_scores", "old_log_probs", "ref_log_prob")}
    values["response_mask"] = torch.randint(0, 2, (16,), generator=generator)
    values["rm_scores"][7] = NAN
    columns = {name: torch.nested.nested_tensor_from_jagged(v, offsets) for name, v in values.items()}
    whole = row_totals(columns)
    monkeypatch.setattr(rows_module, "BLOCK_TOKENS", tokens)
    for name, wanted in vars(whole).items():
        torch.testing.assert_close(vars(row_totals(columns))[name], wanted, equal_nan=True, rtol=0, atol=0)


def test_a_marked_token_counts_although_it_is_not_valid():
    tensors = rows(score_mask=torch.zeros(4, 3))
    tensors["rm_scores"][3, 1] = NAN
    assert not row_totals(jagged(tensors)).is_non_finite.any()
    tensors["score_mask"][3, 1] = 1
    assert row_totals(jagged(tensors)).is_non_finite.tolist() == [False, False, False, True]


def test_a_column_with_rows_of_another_length_takes_those_of_the_mask():
    # verl's padding row, here the first, has one token, and a copy of another row's score_mask.
    mask = torch.nested.nested_tensor_from_jagged(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 1, 4]))
    marks = torch.nested.nested_tensor_from_jagged(torch.tensor([1, 0, 1, 1, 0]), torch.tensor([0, 3, 5]))
    assert [row.tolist() for row in aligned(marks, mask).unbind()] == [[1], [1, 0, 0]]
    assert aligned(marks, mask).to_padded_tensor(0).shape == (2, 3)
    assert aligned(mask, mask) is mask


def test_emptied_rows_keep_their_length():
    column = torch.nested.nested_tensor_from_jagged(torch.arange(1.0, 6.0), torch.tensor([0, 2, 3, 5]))
    emptied = without_rows(column, torch.tensor([False, True, True]))
    assert [row.tolist() for row in emptied.unbind()] == [[1.0, 2.0], [0.0], [0.0, 0.0]]
    assert emptied.to_padded_tensor(0.0).shape == (3, 2)
    assert column.values().tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
