"""Turns the scores of steps, which a reward function gives by where they end in the text, into scores of tokens."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from tokenizers.decoders import DecodeStream

from reinforcepp_verl.rewards.token_scores import STEP_SCORES_KEY, pairs_of_numbers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_INCOMPLETE = "\ufffd"  # what a decoder writes for a character of which some bytes are missing


def token_scores_of(
    given: Any, text: str, response_ids: Sequence[int], tokenizer: PreTrainedTokenizerBase | None
) -> list[tuple[int, float]]:
    """Place `step_scores`, pairs (end, score) of which `text[:end]` is the answer up to and including the step.

    A score goes to the token that completes the last character of its step. If several steps end within one token, it
    gets the sum of their scores.

    Raises:
        TypeError: it is not a list of such pairs, or the tokenizer is not a fast one
        ValueError: an end is outside the text or not after the one before, a score is not finite, or there is no step
        Exception: of tokenizers, on bytes that are no text after a character of several bytes (byte fallback only)
    """
    pairs = pairs_of_numbers(given, STEP_SCORES_KEY, "end")
    if not pairs:
        raise ValueError(f"{STEP_SCORES_KEY} is empty: return score for an answer without a step")
    _check_ends([end for end, _ in pairs], len(text))
    ends_of_tokens = _ends_of_tokens(text, response_ids, tokenizer)
    placed: dict[int, float] = {}
    for end, score in pairs:
        token = bisect_left(ends_of_tokens, end)
        placed[token] = placed.get(token, 0.0) + score
    return list(placed.items())


def _check_ends(ends: Sequence[int], characters: int) -> None:
    before = 0
    for end in ends:
        if not before < end <= characters:
            raise ValueError(
                f"{STEP_SCORES_KEY} has a step that ends at {end}: ends count the characters of solution_str, which "
                f"has {characters}, and each is after the one before ({before})"
            )
        before = end


def _ends_of_tokens(text: str, response_ids: Sequence[int], tokenizer: PreTrainedTokenizerBase | None) -> list[int]:
    """Return for each token how many characters of the text are complete with it; with the last one all are.

    The bytes of a character may be spread over tokens, and special tokens add no text.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise TypeError(
            f"the reward function returned {STEP_SCORES_KEY}: {type(tokenizer).__name__} is not a fast tokenizer, and "
            "others do not decode token by token; return token_scores"
        )
    stream = DecodeStream(skip_special_tokens=True)
    pieces = [stream.step(backend, token) or "" for token in response_ids]
    decoded = "".join(pieces)
    if not text.startswith(decoded) or text[len(decoded) :].strip(_INCOMPLETE):
        raise ValueError(
            f"the reward function returned {STEP_SCORES_KEY}: decoded token by token, the answer is not solution_str, "
            "because the tokenizer changes whole texts (clean_up_tokenization_spaces); return token_scores"
        )
    return [*accumulate(map(len, pieces[:-1])), len(text)]
