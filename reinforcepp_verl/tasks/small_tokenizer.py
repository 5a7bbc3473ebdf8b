"""Tokenizers of the toy tasks: a list of tokens, and a rule that splits text into them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

CHATML_TOKENS = {"pad_token": "<|endoftext|>", "eos_token": "<|im_end|>", "unk_token": "<|unk|>"}
TURN = "<|im_start|>"
"""The additional special token of ChatML, the chat format of Qwen."""
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHARACTER_TOKENS = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
CHARACTER_TEMPLATE = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}"


def of_characters(characters: str) -> PreTrainedTokenizerFast:
    """Build a tokenizer of these characters, whose chat template is the begin token and the message."""
    split = pre_tokenizers.Split(Regex("."), "isolated")
    return _build([*CHARACTER_TOKENS.values(), *characters], split, CHARACTER_TEMPLATE, 64, CHARACTER_TOKENS)


def of_chats(
    pieces: Iterable[str],
    split: pre_tokenizers.PreTokenizer,
    *,
    max_length: int,
    template: str = CHATML,
    joined_by_spaces: bool = False,
) -> PreTrainedTokenizerFast:
    """Build a tokenizer of ChatML's special tokens and the pieces that `split` makes; `max_length` counts tokens."""
    return _build(
        [*CHATML_TOKENS.values(), TURN, *pieces],
        split,
        template,
        max_length,
        {**CHATML_TOKENS, "additional_special_tokens": [TURN]},
        joined_by_spaces=joined_by_spaces,
    )


def _build(
    vocabulary: list[str],
    split: pre_tokenizers.PreTokenizer,
    template: str,
    max_length: int,
    special_tokens: Mapping[str, str | list[str]],
    *,
    joined_by_spaces: bool = False,
) -> PreTrainedTokenizerFast:
    tokens = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(tokens, str(special_tokens["unk_token"])))
    tokenizer.pre_tokenizer = split
    if not joined_by_spaces:  # which is what it does without a decoder
        tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        model_max_length=max_length,
        padding_side="left",
        **special_tokens,
    )
    fast.chat_template = template
    return fast
