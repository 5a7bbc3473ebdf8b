"""Teaches a small Llama two-digit addition from a sloppy teacher, so that reinforcement learning has work left to do.

The teacher forgets most carries and now and then writes a wrong last digit. A model that imitates it well knows the
right answer to every question but samples it less than half of the time, and its most likely answer is wrong wherever
a carry is usually forgotten: both the sampled and the greedy accuracy leave room.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

if TYPE_CHECKING:
    from reinforcepp_verl.data.arithmetic import Question

Progress = Callable[[int, int], None]
MAX_ANSWER_TOKENS = 4  # three digits and the end of sequence
_BETAS = (0.9, 0.98)
_WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class WarmStart:
    """Size of the model, how long it is taught, and how sloppy its teacher is."""

    hidden_size: int = 128
    layers: int = 2
    steps: int = 300
    batch_size: int = 256
    learning_rate: float = 3e-3
    warmup_steps: int = 50
    forgotten_carry: float = 0.6
    wrong_last_digit: float = 0.4
    threads: int = 2


@dataclass(frozen=True)
class Accuracy:
    """Expected accuracy at temperature 1 and accuracy of greedy decoding, both in [0, 1]."""

    sampled: float
    greedy: float


class Encoder:
    """Turns questions and answers into token ids with the saved tokenizer's vocabulary."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.pad, self.eos = int(tokenizer.pad_token_id), int(tokenizer.eos_token_id)
        self._digits = torch.tensor(tokenizer.convert_tokens_to_ids(list("0123456789")))

    def prompts(self, questions: Sequence[Question]) -> Tensor:
        """Encode the questions as the rollout sees them, `(N, P)`: all have the same length."""
        texts = [self.tokenizer.apply_chat_template(q.messages, tokenize=False) for q in questions]
        return torch.tensor(self.tokenizer(texts, add_special_tokens=False)["input_ids"])

    def answers(self, sums: Tensor) -> Tensor:
        """Encode the sums `(N,)`, all in 10..199, as `(N, MAX_ANSWER_TOKENS)` with the end of sequence, then padding."""
        digits = self._digits[torch.stack([sums // 100, sums // 10 % 10, sums % 10], dim=1)]
        end = torch.full_like(digits[:, :1], self.eos)
        pad = torch.full_like(end, self.pad)
        three, two = torch.cat([digits, end], dim=1), torch.cat([digits[:, 1:], end, pad], dim=1)
        return torch.where((sums >= 100)[:, None], three, two)


def build_model(tokenizer: PreTrainedTokenizerFast, settings: WarmStart) -> LlamaForCausalLM:
    """Build an untrained fp32 Llama. Heads have 32 channels, the fewest that vLLM's attention kernels take."""
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=3 * settings.hidden_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.hidden_size // 32,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        dtype="float32",
        **ids,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(do_sample=True, temperature=1.0, **ids)
    return model


def noisy_sums(left: Tensor, right: Tensor, settings: WarmStart, generator: torch.Generator) -> Tensor:
    """Add as the sloppy teacher does. All shapes `(N,)`."""
    sums = left + right
    chance = torch.rand(2, len(sums), generator=generator)
    carries = left % 10 + right % 10 >= 10
    sums = sums - 10 * (carries & (chance[0] < settings.forgotten_carry)).long()
    other_digit = (sums + torch.randint(1, 10, sums.shape, generator=generator)) % 10
    return torch.where(chance[1] < settings.wrong_last_digit, sums - sums % 10 + other_digit, sums)


def train(
    questions: Sequence[Question],
    tokenizer: PreTrainedTokenizerFast,
    *,
    seed: int,
    settings: WarmStart,
    progress: Progress | None = None,
) -> LlamaForCausalLM:
    """Train a model on the sloppy teacher's answers; the same seed and settings give the same weights.

    `progress` is called after each step with the steps done and their total.
    """
    with _reproducible(seed, settings.threads):
        encoder, model = Encoder(tokenizer), build_model(tokenizer, settings)
        prompts, operands = encoder.prompts(questions), torch.tensor([(q.left, q.right) for q in questions])
        generator = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=settings.learning_rate, betas=_BETAS, weight_decay=_WEIGHT_DECAY
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _learning_rate_factor(step, settings))
        for step in range(settings.steps):
            rows = torch.randint(len(prompts), (settings.batch_size,), generator=generator)
            targets = encoder.answers(noisy_sums(*operands[rows].unbind(1), settings, generator))
            logits = _answer_logits(model, prompts[rows], targets)
            loss = cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=encoder.pad)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            if progress is not None:
                progress(step + 1, settings.steps)
    return model.eval()


@torch.no_grad()
def measure(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, questions: Sequence[Question]) -> Accuracy:
    """Measure both accuracies exactly, without sampling: from the probability of each right answer."""
    encoder = Encoder(tokenizer)
    targets = encoder.answers(torch.tensor([q.left + q.right for q in questions]))
    logits = _answer_logits(model, encoder.prompts(questions), targets)
    padding = targets == encoder.pad
    log_probs = logits.log_softmax(-1).gather(2, targets[..., None])[..., 0].masked_fill(padding, 0.0)
    greedy = ((logits.argmax(-1) == targets) | padding).all(dim=1)
    return Accuracy(sampled=log_probs.sum(1).exp().mean().item(), greedy=greedy.float().mean().item())


def _answer_logits(model: LlamaForCausalLM, prompts: Tensor, answers: Tensor) -> Tensor:
    """Return the logits that predict the answer tokens, `(N, MAX_ANSWER_TOKENS, V)`."""
    inputs = torch.cat([prompts, answers], dim=1)[:, :-1]
    return model(input_ids=inputs, use_cache=False, logits_to_keep=answers.shape[1]).logits


def _learning_rate_factor(step: int, settings: WarmStart) -> float:
    """Linear warm-up, then a cosine down to 5 %."""
    cosine = 0.05 + 0.475 * (1 + math.cos(math.pi * step / settings.steps))
    return min(1.0, (step + 1) / settings.warmup_steps) * cosine


@contextmanager
def _reproducible(seed: int, threads: int) -> Iterator[None]:
    """Fix the random state, the thread count and the kernels of torch, and put the caller's back afterwards."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.set_num_threads(before[0])
            torch.use_deterministic_algorithms(before[1])
