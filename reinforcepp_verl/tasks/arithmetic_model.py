"""Warm-starts the model of the arithmetic task: its sloppy teacher forgets most carries and some last digits.

The most likely answer is therefore wrong wherever a carry is usually forgotten, so that both sampled and greedy
accuracy can improve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from reinforcepp_verl.tasks import warm_start
from reinforcepp_verl.tasks.warm_start import Accuracy, Progress, WarmStart, accuracy_of, answer_inputs

if TYPE_CHECKING:
    from reinforcepp_verl.tasks.arithmetic_question import Addition

MAX_ANSWER_TOKENS = 4  # three digits and the end of sequence
_PROBE_QUESTIONS = 512


@dataclass(frozen=True)
class AdditionWarmStart(WarmStart):
    """How often the sloppy teacher errs."""

    forgotten_carry: float = 0.6
    wrong_last_digit: float = 0.28


class Encoder:
    """Encodes questions and answers with the vocabulary of the saved tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.pad, self.eos = int(tokenizer.pad_token_id), int(tokenizer.eos_token_id)
        self._digits = torch.tensor(tokenizer.convert_tokens_to_ids(list("0123456789")))

    def prompts(self, questions: Sequence[Addition]) -> Tensor:
        """Encode the questions as in the rollout, `(N, P)`: all have the same length."""
        texts = [self.tokenizer.apply_chat_template(q.messages, tokenize=False) for q in questions]
        return torch.tensor(self.tokenizer(texts, add_special_tokens=False)["input_ids"])

    def answers(self, sums: Tensor) -> Tensor:
        """Encode the sums `(N,)`, all in 10..199, as `(N, MAX_ANSWER_TOKENS)`: digits, end of sequence, padding."""
        digits = self._digits[torch.stack([sums // 100, sums // 10 % 10, sums % 10], dim=1)]
        end = torch.full_like(digits[:, :1], self.eos)
        pad = torch.full_like(end, self.pad)
        three, two = torch.cat([digits, end], dim=1), torch.cat([digits[:, 1:], end, pad], dim=1)
        return torch.where((sums >= 100)[:, None], three, two)


def noisy_sums(left: Tensor, right: Tensor, settings: AdditionWarmStart, generator: torch.Generator) -> Tensor:
    """Add with the errors of the sloppy teacher. All shapes `(N,)`."""
    sums = left + right
    chance = torch.rand(2, len(sums), generator=generator)
    carries = left % 10 + right % 10 >= 10
    sums = sums - 10 * (carries & (chance[0] < settings.forgotten_carry)).long()
    other_digit = (sums + torch.randint(1, 10, sums.shape, generator=generator)) % 10
    return torch.where(chance[1] < settings.wrong_last_digit, sums - sums % 10 + other_digit, sums)


def train(
    questions: Sequence[Addition],
    tokenizer: PreTrainedTokenizerFast,
    *,
    seed: int,
    settings: AdditionWarmStart,
    progress: Progress | None = None,
) -> LlamaForCausalLM:
    """Train a model to answer the questions; the same seed and settings give the same weights."""
    demonstrations = _Demonstrations(Encoder(tokenizer), questions, settings)
    return warm_start.train(
        tokenizer,
        demonstrations.batch,
        lambda model: measure(model, tokenizer, questions[:_PROBE_QUESTIONS]).sampled,
        seed=seed,
        settings=settings,
        progress=progress,
    )


class _Demonstrations:
    """Draws questions and answers them like one of the teachers."""

    def __init__(self, encoder: Encoder, questions: Sequence[Addition], settings: AdditionWarmStart) -> None:
        self.encoder, self.settings = encoder, settings
        self.prompts = encoder.prompts(questions)
        self.operands = torch.tensor([(q.left, q.right) for q in questions])

    def batch(self, size: int, generator: torch.Generator, *, sloppy: bool) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(self.prompts), (size,), generator=generator)
        left, right = self.operands[rows].unbind(1)
        sums = noisy_sums(left, right, self.settings, generator) if sloppy else left + right
        answers = self.encoder.answers(sums)
        return answer_inputs(self.prompts[rows], answers), answers


def measure(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, questions: Sequence[Addition]) -> Accuracy:
    """Compute both accuracies exactly, without sampling."""
    encoder = Encoder(tokenizer)
    answers = encoder.answers(torch.tensor([q.left + q.right for q in questions]))
    return accuracy_of(model, answer_inputs(encoder.prompts(questions), answers), answers, encoder.pad)
