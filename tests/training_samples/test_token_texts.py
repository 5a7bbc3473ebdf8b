"""The texts of tokens, joined, are the text, also where characters are cut into several tokens."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from reinforcepp_verl.training_samples.token_texts import text_of, token_texts


@pytest.fixture(scope="module")
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, as in the worst case of a byte-level vocabulary."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.mark.parametrize("text", ["", "a b", "naïve 漢字", "😀\n\x1b[0m", "\u202e"])
def test_joined_they_are_the_text(byte_tokenizer, text):
    ids = byte_tokenizer(text).input_ids
    texts = token_texts(ids, byte_tokenizer)
    assert len(texts) == len(ids) == len(text.encode())
    assert "".join(texts) == text == text_of(ids, byte_tokenizer)


def test_a_character_belongs_to_the_token_that_completes_it(byte_tokenizer):
    assert token_texts(byte_tokenizer("aï😀").input_ids, byte_tokenizer) == ["a", "", "ï", "", "", "", "😀"]


def test_bytes_that_are_no_character_are_shown_as_such(byte_tokenizer):
    ids = byte_tokenizer("😀b").input_ids
    assert token_texts(ids[:2], byte_tokenizer)[-1] == "\ufffd", "cut off at the end"
    assert "".join(token_texts([ids[1]] * 9 + ids[-1:], byte_tokenizer)).endswith("b")
