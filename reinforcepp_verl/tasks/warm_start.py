"""Trains a small Llama on a toy task and then degrades it, so that reinforcement learning has something to improve.

It first learns from a careful teacher until it has mastered the task, then briefly from a sloppy one. It still knows
the correct answers but samples them less than half of the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

Progress = Callable[[int, int], None]
"""Called after each step with the number of steps done and the total."""
Teacher = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
"""Demonstrates B answers: tokens `(B, T)`, and the next tokens of the last A of them `(B, A)`, or padding."""

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
    careful: Teacher,
    sloppy: Teacher,
    sampled_accuracy: Callable[[LlamaForCausalLM], float],
    *,
    seed: int,
    settings: WarmStart,
    progress: Progress | None = None,
) -> LlamaForCausalLM:
    """Train a model with both teachers; the same seed and settings give the same weights.

    `progress` jumps ahead once `sampled_accuracy` reaches mastery.
    """
    report = progress or (lambda done, total: None)
    with reproducible(seed):
        model = build_model(tokenizer, settings)
        lessons = _Lessons(model, int(tokenizer.pad_token_id), settings, torch.Generator().manual_seed(seed))
        for step in lessons.steps(careful, settings.careful_steps, settings.careful_learning_rate):
            report(step, settings.steps)
            if step % _PROBE_INTERVAL == 0 and sampled_accuracy(model) >= settings.mastery:
                break
        for step in lessons.steps(sloppy, settings.sloppy_steps, settings.sloppy_learning_rate):
            report(settings.careful_steps + step, settings.steps)
    return model.eval()


def answer_inputs(prompts: Tensor, answers: Tensor) -> Tensor:
    """Return the input tokens whose next tokens are those of the answers: prompts `(N, P)`, answers `(N, A)`."""
    return torch.cat([prompts, answers], dim=1)[:, :-1]


@torch.no_grad()
def accuracy_of_answers(model: LlamaForCausalLM, prompts: Tensor, answers: Tensor, pad: int) -> Accuracy:
    """Compute both accuracies exactly, without sampling, from the probability of each right answer `(N, A)`."""
    inputs = answer_inputs(prompts, answers)
    logits = model(input_ids=inputs, use_cache=False, logits_to_keep=answers.shape[1]).logits
    padding = answers == pad
    log_probs = logits.log_softmax(-1).gather(2, answers[..., None])[..., 0].masked_fill(padding, 0.0)
    greedy = ((logits.argmax(-1) == answers) | padding).all(dim=1)
    return Accuracy(sampled=log_probs.sum(1).exp().mean().item(), greedy=greedy.float().mean().item())


@dataclass(frozen=True)
class _Lessons:
    """Takes optimizer steps on batches of a teacher's demonstrations."""

    model: LlamaForCausalLM
    pad: int
    settings: WarmStart
    generator: torch.Generator

    def steps(self, teacher: Teacher, steps: int, learning_rate: float) -> Iterator[int]:
        """Yield the number of steps done after each one.

        Each teacher gets a new optimizer: the tiny second moments of the old one would make the first steps huge.
        """
        optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=learning_rate, betas=_BETAS, weight_decay=_WEIGHT_DECAY, fused=True
        )
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = learning_rate * _schedule(step, steps, self.settings.warmup_steps)
            tokens, targets = teacher(self.settings.batch_size, self.generator)
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
