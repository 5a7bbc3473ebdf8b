"""The tokenizer and the policy of the packing lists: it forgets some things and adds others."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from reinforcepp_verl.tasks import warm_start
from reinforcepp_verl.tasks.packing_lists import THINGS, TRIPS, PackingList, sloppy_answer
from reinforcepp_verl.tasks.warm_start import Progress, WarmStart
from reinforcepp_verl.tasks.word_model import CHAT_TEMPLATE, SPECIAL_TOKENS, TURN


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
    vocabulary = [*SPECIAL_TOKENS.values(), TURN, "user", "assistant", "pack", "for", "and", *TRIPS, *THINGS]
    # Without a decoder, words are joined by spaces.
    tokenizer = Tokenizer(models.WordLevel({t: i for i, t in enumerate(vocabulary)}, SPECIAL_TOKENS["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        additional_special_tokens=[TURN],
        clean_up_tokenization_spaces=False,
        model_max_length=64,
        padding_side="left",
        **SPECIAL_TOKENS,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


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
        partial(demonstrations.batch, sloppy=False),
        partial(demonstrations.batch, sloppy=True),
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
    tokens, targets = [], []
    for question, answer in zip(questions, answers, strict=True):
        text = tokenizer.apply_chat_template(question.messages, tokenize=False, add_generation_prompt=True)
        prompt, rest = tokenizer([str(text), answer], add_special_tokens=False)["input_ids"]
        whole = [*prompt, *rest, tokenizer.eos_token_id]
        tokens.append(torch.tensor(whole[:-1]))
        targets.append(torch.tensor([tokenizer.pad_token_id] * (len(prompt) - 1) + whole[len(prompt) :]))
    first, second = (pad_sequence(rows, True, tokenizer.pad_token_id) for rows in (tokens, targets))
    return first, second


@torch.no_grad()
def chance_of_best(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, questions: Sequence[PackingList]
) -> float:
    """Return the mean probability of the best answers, computed without sampling."""
    tokens, targets = encode(tokenizer, questions, [" ".join(question.things) for question in questions])
    logits = model(input_ids=tokens, use_cache=False).logits
    padding = targets == tokenizer.pad_token_id
    log_probs = logits.log_softmax(-1).gather(2, targets[..., None])[..., 0].masked_fill(padding, 0.0)
    return log_probs.sum(1).exp().mean().item()
