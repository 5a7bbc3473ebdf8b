"""Trains a small Llama on a toy task and then degrades it, so that reinforcement learning has something to improve.

It first learns from a careful teacher until it has mastered the task, then briefly from a sloppy one. It still knows
the correct answers but samples them less than half of the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

Progress = Callable[[int, int], None]
"""Called after each step with the number of steps done and the total."""

_PROBE_INTERVAL = 25
_BETAS = (0.9, 0.98)
_WEIGHT_DECAY = 0.01
_HEAD_SIZE = 32  # the smallest size that vLLM's attention kernels support
_INITIALIZER_RANGE = 0.06  # learns in fewer steps than the usual 0.02
_ROPE_THETA = 10.0  # sequences are short: slow rotations do not help and delay learning


@dataclass(frozen=True)
class WarmStart:
    """Size of the model, and training length and rate for each teacher.

    `careful_steps` is a limit: the careful phase ends at the sampled accuracy `mastery` on training questions.
    """

    hidden_size: int = 128
    layers: int = 2
    batch_size: int = 64
    careful_steps: int = 1000
    careful_learning_rate: float = 1.5e-3
    mastery: float = 0.9
    sloppy_steps: int = 120
    sloppy_learning_rate: float = 1e-3
    warmup_steps: int = 30

    @property
    def steps(self) -> int:
        """Maximum number of steps of both phases."""
        return self.careful_steps + self.sloppy_steps


class Teacher(Protocol):
    """Demonstrates answers, carefully or with mistakes."""

    def __call__(self, size: int, generator: torch.Generator, *, sloppy: bool) -> tuple[Tensor, Tensor]:
        """Return `size` sequences `(B, T)`, and the next token of the last A positions `(B, A)`, or padding."""


@dataclass(frozen=True)
class Accuracy:
    """Accuracy at temperature 1 and with greedy decoding, both in [0, 1]."""

    sampled: float
    greedy: float


def build_model(tokenizer: PreTrainedTokenizerFast, settings: WarmStart) -> LlamaForCausalLM:
    """Build an untrained Llama in fp32, for sequences of up to the tokenizer's `model_max_length` tokens."""
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=3 * settings.hidden_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.hidden_size // _HEAD_SIZE,
        rope_parameters={"rope_type": "default", "rope_theta": _ROPE_THETA},
        max_position_embeddings=tokenizer.model_max_length,
        tie_word_embeddings=False,
        initializer_range=_INITIALIZER_RANGE,
        dtype="float32",
        **ids,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(do_sample=True, temperature=1.0, **ids)
    return model


def train(
    tokenizer: PreTrainedTokenizerFast,
    teacher: Teacher,
    sampled_accuracy: Callable[[LlamaForCausalLM], float],
    *,
    seed: int,
    settings: WarmStart,
    progress: Progress | None = None,
) -> LlamaForCausalLM:
    """Train a model with the careful and then the sloppy teacher; the same seed and settings give the same weights.

    `progress` jumps ahead once `sampled_accuracy` reaches mastery.
    """
    report = progress or (lambda done, total: None)
    with reproducible(seed):
        model = build_model(tokenizer, settings)
        generator = torch.Generator().manual_seed(seed)
        lessons = _Lessons(model, teacher, int(tokenizer.pad_token_id), settings, generator)
        for step in lessons.steps(settings.careful_steps, settings.careful_learning_rate, sloppy=False):
            report(step, settings.steps)
            if step % _PROBE_INTERVAL == 0 and sampled_accuracy(model) >= settings.mastery:
                break
        for step in lessons.steps(settings.sloppy_steps, settings.sloppy_learning_rate, sloppy=True):
            report(settings.careful_steps + step, settings.steps)
    return model.eval()


def answer_inputs(prompts: Tensor, answers: Tensor) -> Tensor:
    """Return the input tokens whose next tokens are those of the answers: prompts `(N, P)`, answers `(N, A)`."""
    return torch.cat([prompts, answers], dim=1)[:, :-1]


def next_tokens(
    prompts: Iterable[list[int]], answers: Iterable[list[int]], eos: int, pad: int
) -> tuple[Tensor, Tensor]:
    """Return prompts with answers as tokens `(N, T)`, and each position's next token of the answer, or padding."""
    tokens, targets = [], []
    for prompt, answer in zip(prompts, answers, strict=True):
        whole = [*prompt, *answer, eos]
        tokens.append(torch.tensor(whole[:-1]))
        targets.append(torch.tensor([pad] * (len(prompt) - 1) + whole[len(prompt) :]))
    return padded(tokens, pad), padded(targets, pad)


def padded(rows: list[Tensor], pad: int) -> Tensor:
    """Return rows as one tensor `(N, T)`, padded at their end."""
    return pad_sequence(rows, batch_first=True, padding_value=pad)


@torch.no_grad()
def accuracy_of(model: LlamaForCausalLM, tokens: Tensor, targets: Tensor, pad: int) -> Accuracy:
    """Compute exactly, without sampling, how often the model says the `targets` `(N, A)` after the tokens `(N, T)`."""
    logits = model(input_ids=tokens, use_cache=False, logits_to_keep=targets.shape[1]).logits
    padding = targets == pad
    log_probs = logits.log_softmax(-1).gather(2, targets[..., None])[..., 0].masked_fill(padding, 0.0)
    greedy = ((logits.argmax(-1) == targets) | padding).all(dim=1)
    return Accuracy(sampled=log_probs.sum(1).exp().mean().item(), greedy=greedy.float().mean().item())


@dataclass(frozen=True)
class _Lessons:
    """Takes optimizer steps on batches of a teacher's demonstrations."""

    model: LlamaForCausalLM
    teacher: Teacher
    pad: int
    settings: WarmStart
    generator: torch.Generator

    def steps(self, steps: int, learning_rate: float, *, sloppy: bool) -> Iterator[int]:
        """Yield the number of steps done after each one.

        Each phase gets a new optimizer: the tiny second moments of the old one would make the first steps huge.
        """
        optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=learning_rate, betas=_BETAS, weight_decay=_WEIGHT_DECAY, fused=True
        )
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = learning_rate * _schedule(step, steps, self.settings.warmup_steps)
            tokens, targets = self.teacher(self.settings.batch_size, self.generator, sloppy=sloppy)
            logits = self.model(input_ids=tokens, use_cache=False, logits_to_keep=targets.shape[1]).logits
            loss = cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=self.pad)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimizer.step()
            yield step + 1


def _schedule(step: int, steps: int, warmup_steps: int) -> float:
    """Linear warmup, then a cosine down to 5%."""
    return min(1.0, (step + 1) / warmup_steps) * (0.525 + 0.475 * math.cos(math.pi * step / steps))


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Fix torch's random state, thread count and kernels, and restore the caller's afterwards.

    One thread: the result does not depend on the number of cores, and tiny operations gain little from a second thread
    but may wait long for it on a busy machine.
    """
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.set_num_threads(before[0])
            torch.use_deterministic_algorithms(before[1])
