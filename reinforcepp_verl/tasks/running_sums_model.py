"""Warm-starts the model of the running sums: its sloppy teacher errs in single steps and goes on from the wrong sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from reinforcepp_verl.tasks import warm_start
from reinforcepp_verl.tasks.running_sums_question import RunningSums, answer_text
from reinforcepp_verl.tasks.warm_start import Accuracy, Progress, WarmStart, accuracy_of, answer_inputs

_PROBE_QUESTIONS = 512


@dataclass(frozen=True)
class RunningSumsWarmStart(WarmStart):
    """How often the sloppy teacher errs in a step."""

    batch_size: int = 32
    careful_learning_rate: float = 2e-3
    mastery: float = 0.85
    sloppy_steps: int = 100
    forgotten_carry: float = 0.6
    wrong_last_digit: float = 0.2


def noisy_sums(numbers: Tensor, settings: RunningSumsWarmStart, generator: torch.Generator) -> Tensor:
    """Add up the numbers (N, K) with the errors of the sloppy teacher, each step from the sum before it: (N, K - 1)."""
    total, sums = numbers[:, 0], []
    for number in numbers[:, 1:].unbind(1):
        chance = torch.rand(2, len(numbers), generator=generator)
        carries = total % 10 + number >= 10
        total = total + number - 10 * (carries & (chance[0] < settings.forgotten_carry)).long()
        other_digit = (total + torch.randint(1, 10, total.shape, generator=generator)) % 10
        total = torch.where(chance[1] < settings.wrong_last_digit, total - total % 10 + other_digit, total)
        sums.append(total)
    return torch.stack(sums, dim=1)


def train(
    questions: Sequence[RunningSums],
    tokenizer: PreTrainedTokenizerFast,
    *,
    seed: int,
    settings: RunningSumsWarmStart,
    progress: Progress | None = None,
) -> LlamaForCausalLM:
    """Train a model to answer the questions; the same seed and settings give the same weights."""
    demonstrations = Demonstrations(questions, tokenizer, settings)
    return warm_start.train(
        tokenizer,
        demonstrations.batch,
        lambda model: measure(model, tokenizer, questions[:_PROBE_QUESTIONS]).sampled,
        seed=seed,
        settings=settings,
        progress=progress,
    )


class Demonstrations:
    """Draws questions, all of the same size, and answers them like one of the teachers."""

    def __init__(
        self, questions: Sequence[RunningSums], tokenizer: PreTrainedTokenizerFast, settings: RunningSumsWarmStart
    ) -> None:
        self.tokenizer, self.settings = tokenizer, settings
        self.prompts = _prompts(tokenizer, questions)
        self.numbers = torch.tensor([question.numbers for question in questions])

    def batch(self, size: int, generator: torch.Generator, *, sloppy: bool) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(self.prompts), (size,), generator=generator)
        numbers = self.numbers[rows]
        sums = noisy_sums(numbers, self.settings, generator) if sloppy else numbers.cumsum(1)[:, 1:]
        answers = _answers(self.tokenizer, [answer_text(row) for row in sums.tolist()])
        return answer_inputs(self.prompts[rows], answers), answers


def measure(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, questions: Sequence[RunningSums]) -> Accuracy:
    """Compute both accuracies exactly, without sampling; an answer is right if all its sums are."""
    answers = _answers(tokenizer, [question.answer for question in questions])
    inputs = answer_inputs(_prompts(tokenizer, questions), answers)
    return accuracy_of(model, inputs, answers, int(tokenizer.pad_token_id))


def _prompts(tokenizer: PreTrainedTokenizerFast, questions: Sequence[RunningSums]) -> Tensor:
    """Encode the questions as in the rollout (N, P): all have the same length."""
    texts = [tokenizer.apply_chat_template(question.messages, tokenize=False) for question in questions]
    return torch.tensor(tokenizer(texts, add_special_tokens=False)["input_ids"])


def _answers(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> Tensor:
    """Encode answers, each with the end of sequence, padded on the right (N, A)."""
    ended = [f"{text}{tokenizer.eos_token}" for text in texts]
    encoded = tokenizer(ended, add_special_tokens=False, padding=True, padding_side="right", return_tensors="pt")
    return encoded["input_ids"]  # type: ignore[no-any-return]
