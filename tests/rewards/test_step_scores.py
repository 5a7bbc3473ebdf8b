"""From steps of a text over scores of tokens to returns: cut steps, steps within one token, characters over tokens."""

from __future__ import annotations

import math

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from reinforcepp_verl.algorithm.batch import RewardBatch
from reinforcepp_verl.algorithm.estimators import reinforcepp, reinforcepp_baseline
from reinforcepp_verl.algorithm.options import ReinforceppOptions
from reinforcepp_verl.rewards.running_sums import compute_score, outcome_score
from reinforcepp_verl.rewards.step_scores import token_scores_of
from reinforcepp_verl.tasks.running_sums_task import build_tokenizer

CHARACTERS = build_tokenizer()
TRUTH = "7;12;18;"  # of 3+4+5+6=


@pytest.fixture(scope="module")
def byte_pieces() -> PreTrainedTokenizerFast:
    """A tokenizer of bytes, as GPT's or Qwen's, in which a few longer pieces are one token too."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("1", "2"), ("12", ";"), (";", "7"), (";7", ";")]
    pieces = ["<eos>", *alphabet, *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")


def place(tokenizer, text: str, ids: list[int], *steps: tuple[int, float]) -> dict[int, float]:
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    return dict(token_scores_of(steps, text, ids, tokenizer))


def scored(text: str) -> dict:
    return compute_score("sums", text, TRUTH)


def scores_of_steps(text: str) -> list[float]:
    """The scores of the steps in thirds."""
    return [3 * score for _, score in scored(text)["step_scores"]]


def test_from_steps_to_returns_by_hand():
    # 7 is right, 13 is not 7 + 5, and 19 is 13 + 6: the second mistake is the only one.
    text, truth_steps = "7;13;19;", [(2, 1 / 3), (5, 0.0), (8, 1 / 3)]
    assert [tuple(step) for step in scored(text)["step_scores"]] == truth_steps
    ids = [*CHARACTERS(text, add_special_tokens=False)["input_ids"], CHARACTERS.eos_token_id]
    placed = place(CHARACTERS, text, ids, *truth_steps)
    assert placed == {1: 1 / 3, 4: 0.0, 7: 1 / 3}

    scores, marks = torch.zeros(1, 9), torch.zeros(1, 9)
    for token, score in placed.items():
        scores[0, token], marks[0, token] = score, 1
    kl = torch.tensor([[0.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0, -0.2, 0.3]])
    batch = RewardBatch(scores, torch.ones(1, 9), kl, torch.zeros(1).long(), score_mask=marks)
    #         7             ;             1     3     ;     1     9     ;                 <eos>
    to_go = [2 / 3 - 0.2, 2 / 3 - 0.2, *[1 / 3 - 0.1] * 5, 1 / 3 + 0.2 - 0.3, -0.3]
    torch.testing.assert_close(reinforcepp(batch, ReinforceppOptions()).returns, torch.tensor([to_go]))


def test_a_group_baseline_centers_each_step_by_the_mean_of_all_steps():
    scores = torch.tensor([[0.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0]]) / 2
    marks, mask = torch.tensor([[0, 1, 0, 1]] * 2), torch.ones(2, 4)
    batch = RewardBatch(scores, mask, group_index=torch.zeros(2).long(), score_mask=marks)
    # Three of four steps are right: their mean is 3/8.
    expected = [[0.25, 0.25, 0.125, 0.125], [-0.25, -0.25, -0.375, -0.375]]
    torch.testing.assert_close(reinforcepp_baseline(batch, ReinforceppOptions()).returns, torch.tensor(expected))


def test_a_step_is_judged_by_the_one_before_and_pays_once():
    assert scores_of_steps("7;12;18;") == pytest.approx([1, 1, 1])
    assert scores_of_steps("8;13;19;") == pytest.approx([0, 1, 1])
    assert scores_of_steps("7;2;8;") == pytest.approx([1, 0, 1]), "a forgotten carry"
    assert scores_of_steps("7;+;18;") == pytest.approx([1, 0, 0]), "18 has no sum before it"
    assert scores_of_steps("7;12;") == pytest.approx([1, 1])
    assert scores_of_steps("7;012;18;") == pytest.approx([1, 0, 0])


def test_steps_too_many_cost_so_that_only_the_right_answer_scores_one():
    assert scores_of_steps("7;12;18;24;") == pytest.approx([1, 1, 1, -1])
    assert scores_of_steps("7;12;18;2") == pytest.approx([1, 1, 1, -1])
    total = sum(score for _, score in scored(TRUTH)["step_scores"])
    assert total == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("text", "acc"),
    [("7;12;18;", 1), ("8;12;18;", 1), ("7;12;19;", 0), ("7;18;", 0), ("7;12;18;1", 0), ("7;12;18", 0), ("", 0)],
)
def test_accuracy_is_that_of_the_last_sum(text, acc):
    assert scored(text)["acc"] == acc
    assert outcome_score("sums", text, TRUTH) == {"score": acc, "acc": acc, "pred": text}


def test_an_answer_without_a_step_has_one_score():
    assert scored("") == {"score": 0.0, "acc": 0.0, "pred": ""}


def test_a_step_that_is_cut_is_wrong_and_scored_at_the_last_token():
    text = "7;12;18"  # out of tokens before the semicolon
    assert scores_of_steps(text) == pytest.approx([1, 1, 0])
    ids = CHARACTERS(text, add_special_tokens=False)["input_ids"]
    assert place(CHARACTERS, text, ids, *scored(text)["step_scores"]) == {1: 1 / 3, 4: 1 / 3, 6: 0.0}


def test_a_token_of_several_characters_gets_the_steps_that_end_in_it(byte_pieces):
    # 12; is one token, and so is ;7; which ends two steps.
    text, ids = "12;3;7;", byte_pieces("12;3;7;")["input_ids"]
    assert byte_pieces.convert_ids_to_tokens(ids) == ["12;", "3", ";7;"]
    assert place(byte_pieces, text, ids, (3, 0.5), (5, 1.0), (7, -0.25)) == {0: 0.5, 2: 0.75}
    # The step 12 ends within the first token.
    assert place(byte_pieces, text, ids, (2, 0.5), (7, 1.0)) == {0: 0.5, 2: 1.0}


def test_a_character_of_several_tokens_is_complete_with_its_last_one(byte_pieces):
    text = "é=1;😀中;"
    ids = [*byte_pieces(text)["input_ids"], byte_pieces.eos_token_id]
    assert len(ids) == 2 + 3 + 4 + 3 + 1 + 1
    steps = [(1, 1.0), (4, 2.0), (5, 3.0), (6, 4.0), (7, 5.0)]
    assert place(byte_pieces, text, ids, *steps) == {1: 1.0, 4: 2.0, 8: 3.0, 11: 4.0, 12: 5.0}


def test_a_character_that_is_cut_ends_with_the_last_token(byte_pieces):
    ids = byte_pieces("1;😀")["input_ids"][:-1]
    text = byte_pieces.decode(ids)
    assert text == "1;\ufffd"
    assert place(byte_pieces, text, ids, (2, 1.0), (3, 0.0)) == {1: 1.0, 4: 0.0}


def test_special_tokens_carry_no_score(byte_pieces):
    eos, (one, semicolon) = byte_pieces.eos_token_id, byte_pieces("1;")["input_ids"]
    assert place(byte_pieces, "1;", [eos, one, eos, semicolon, eos], (1, 0.5), (2, 1.0)) == {1: 0.5, 3: 1.0}


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        ([[9, 1.0]], "step_scores has a step that ends at 9: ends count the characters of solution_str, which has 8"),
        ([[0, 1.0]], "step_scores has a step that ends at 0"),
        ([[-1, 1.0]], "step_scores has a step that ends at -1"),
        ([[5, 1.0], [2, 1.0]], r"step_scores has a step that ends at 2: .* each is after the one before \(5\)"),
        ([[2, 1.0], [2, 1.0]], r"step_scores has a step that ends at 2: .* each is after the one before \(2\)"),
        ([[2, math.inf]], "step_scores has the score inf for end 2: it must be finite"),
        ([], "step_scores is empty: return score for an answer without a step"),
        ([1.0, 0.0], "step_scores has the entry 1.0: each must be"),
        ([[2.0, 1.0]], "step_scores has the entry .*: each must be an integer and a number"),
        (None, "step_scores is None: return a list of"),
    ],
)
def test_mistakes_in_steps_are_named(steps, error):
    ids = CHARACTERS(TRUTH, add_special_tokens=False)["input_ids"]
    with pytest.raises((TypeError, ValueError), match=error):
        token_scores_of(steps, TRUTH, ids, CHARACTERS)


def test_a_tokenizer_that_cannot_decode_token_by_token_is_refused(byte_pieces):
    with pytest.raises(TypeError, match="object is not a fast tokenizer.*return token_scores"):
        token_scores_of([[1, 1.0]], "1", [1], object())
    ids = byte_pieces("1 ;")["input_ids"]
    with pytest.raises(ValueError, match="clean_up_tokenization_spaces"):
        token_scores_of([[1, 1.0]], "1;", ids, byte_pieces)
