"""The tokenizer and the policy of the packing lists: it forgets some things and adds others."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import pre_tokenizers
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from reinforcepp_verl.tasks import small_tokenizer, warm_start
from reinforcepp_verl.tasks.packing_lists import THINGS, TRIPS, PackingList, sloppy_answer
from reinforcepp_verl.tasks.warm_start import Progress, WarmStart, accuracy_of, next_tokens


@dataclass(frozen=True)
class PackingWarmStart(WarmStart):
    """How often the sloppy teacher forgets a thing and adds a word."""

    hidden_size: int = 64
    careful_steps: int = 600
    sloppy_steps: int = 100
    forgotten: float = 0.25
    added: float = 0.1


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build a tokenizer of words, with a chat template with roles."""
    words = ["user", "assistant", "pack", "for", "and", *TRIPS, *THINGS]
    split = pre_tokenizers.WhitespaceSplit()
    return small_tokenizer.of_chats(words, split, max_length=64, joined_by_spaces=True)


def train(
    questions: Sequence[PackingList],
    tokenizer: PreTrainedTokenizerFast,
    *,
    seed: int,
    settings: PackingWarmStart,
    progress: Progress | None = None,
) -> LlamaForCausalLM:
    """Train the policy; the same seed and settings give the same weights."""
    demonstrations = _Demonstrations(questions, tokenizer, settings, random.Random(f"demonstrations {seed}"))
    return warm_start.train(
        tokenizer,
        demonstrations.batch,
        lambda model: chance_of_best(model, tokenizer, questions),
        seed=seed,
        settings=settings,
        progress=progress,
    )


class _Demonstrations:
    """Draws questions and answers them like one of the teachers."""

    def __init__(
        self,
        questions: Sequence[PackingList],
        tokenizer: PreTrainedTokenizerFast,
        settings: PackingWarmStart,
        draw: random.Random,
    ) -> None:
        self.questions, self.tokenizer, self.settings, self.draw = questions, tokenizer, settings, draw

    def batch(self, size: int, generator: torch.Generator, *, sloppy: bool) -> tuple[Tensor, Tensor]:
        """Return `size` sequences `(B, T)` and the next token of each position within the answer."""
        rows = torch.randint(len(self.questions), (size,), generator=generator).tolist()
        asked = [self.questions[row] for row in rows]
        return encode(self.tokenizer, asked, [self._answer(question, sloppy) for question in asked])

    def _answer(self, question: PackingList, sloppy: bool) -> str:
        if not sloppy:
            return " ".join(question.things)
        return " ".join(sloppy_answer(question, self.settings.forgotten, self.settings.added, self.draw))


def encode(
    tokenizer: PreTrainedTokenizerFast, questions: Sequence[PackingList], answers: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Return the tokens `(B, T)` of questions with answers, and the next token of each position, or padding."""
    asked = [
        str(tokenizer.apply_chat_template(question.messages, tokenize=False, add_generation_prompt=True))
        for question in questions
    ]
    prompts, said = (tokenizer(list(texts), add_special_tokens=False)["input_ids"] for texts in (asked, answers))
    return next_tokens(prompts, said, int(tokenizer.eos_token_id), int(tokenizer.pad_token_id))


def chance_of_best(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, questions: Sequence[PackingList]
) -> float:
    """Return the mean probability of the best answers, computed without sampling."""
    tokens, targets = encode(tokenizer, questions, [" ".join(question.things) for question in questions])
    return accuracy_of(model, tokens, targets, int(tokenizer.pad_token_id)).sampled
