"""The text that each token adds to a text: decoded alone, tokens lose spaces and characters of several bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

UNDECODABLE = "\ufffd"
LONGEST_CHARACTER = 4
"""Bytes of UTF-8, so also the most tokens that one character can be cut into."""


def token_texts(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the text that each token adds, special tokens included; joined, they are the text of all.

    A token that ends within a character adds "", and the one that completes it adds the character.
    """
    decode = _decoder(tokenizer)
    texts, first, begin = [], 0, 0  # decoded are ids[first:], of which those from `begin` on are not yet in `texts`
    for end in range(1, len(ids) + 1):
        before, now = decode(ids[first:begin]), decode(ids[first:end])
        is_open = now.endswith(UNDECODABLE) and end - begin < LONGEST_CHARACTER and end < len(ids)
        if is_open:
            texts.append("")
        else:
            texts.append(now[len(before) :])
            first, begin = begin, end
    return texts


def text_of(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the text of some tokens, special ones included."""
    return _decoder(tokenizer)(ids)


def _decoder(tokenizer: PreTrainedTokenizerBase) -> Callable[[Sequence[int]], str]:
    # Without the checks of transformers it takes half the time.
    decode = tokenizer.backend_tokenizer.decode if tokenizer.is_fast else tokenizer.decode
    return lambda ids: decode(list(ids), skip_special_tokens=False)
