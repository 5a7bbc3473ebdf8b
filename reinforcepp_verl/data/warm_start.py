"""Teaches a small Llama two-digit addition, then spoils it, so that reinforcement learning has work left to do.

First it learns from a careful teacher until it has mastered the task, then briefly from a sloppy one who forgets most
carries and now and then writes a wrong last digit. It still knows the right answers but samples them less than half of
the time, and its most likely answer is wrong wherever a carry is usually forgotten: both the sampled and the greedy
accuracy leave room.
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
Teacher = Callable[[Tensor, Tensor, "WarmStart", torch.Generator], Tensor]
MAX_ANSWER_TOKENS = 4  # three digits and the end of sequence
_PROBE_QUESTIONS, _PROBE_INTERVAL = 512, 25
_BETAS = (0.9, 0.98)
_WEIGHT_DECAY = 0.01
_HEAD_SIZE = 32  # the smallest that vLLM's attention kernels take
_INITIALIZER_RANGE = 0.06  # learns in fewer steps than with the usual 0.02
_ROPE_THETA = 10.0  # sequences have 11 tokens: slow rotations are of no use and delay the learning


@dataclass(frozen=True)
class WarmStart:
    """Size of the model, how long each teacher teaches it, and how sloppy the second one is.

    `careful_steps` is a limit: the careful teacher stops at the sampled accuracy `mastery` on training questions.
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
    forgotten_carry: float = 0.6
    wrong_last_digit: float = 0.28

    @property
    def steps(self) -> int:
        """The most steps that both teachers together can take."""
        return self.careful_steps + self.sloppy_steps


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
        """Encode the sums `(N,)`, all in 10..199, as `(N, MAX_ANSWER_TOKENS)`: digits, end of sequence, padding."""
        digits = self._digits[torch.stack([sums // 100, sums // 10 % 10, sums % 10], dim=1)]
        end = torch.full_like(digits[:, :1], self.eos)
        pad = torch.full_like(end, self.pad)
        three, two = torch.cat([digits, end], dim=1), torch.cat([digits[:, 1:], end, pad], dim=1)
        return torch.where((sums >= 100)[:, None], three, two)


def build_model(tokenizer: PreTrainedTokenizerFast, settings: WarmStart) -> LlamaForCausalLM:
    """Build an untrained Llama in fp32."""
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=3 * settings.hidden_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.hidden_size // _HEAD_SIZE,
        rope_parameters={"rope_type": "default", "rope_theta": _ROPE_THETA},
        max_position_embeddings=64,
        tie_word_embeddings=False,
        initializer_range=_INITIALIZER_RANGE,
        dtype="float32",
        **ids,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(do_sample=True, temperature=1.0, **ids)
    return model


def _careful_sums(left: Tensor, right: Tensor, settings: WarmStart, generator: torch.Generator) -> Tensor:
    return left + right


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
    """Train a model with both teachers; the same seed and settings give the same weights.

    `progress` is called after each step with the steps done and their total; it jumps ahead at mastery.
    """
    report = progress or (lambda done, total: None)
    probe = questions[:_PROBE_QUESTIONS]
    with _reproducible(seed):
        model = build_model(tokenizer, settings)
        lessons = _Lessons(model, Encoder(tokenizer), questions, settings, torch.Generator().manual_seed(seed))
        for step in lessons.steps(_careful_sums, settings.careful_steps, settings.careful_learning_rate):
            report(step, settings.steps)
            if step % _PROBE_INTERVAL == 0 and measure(model, tokenizer, probe).sampled >= settings.mastery:
                break
        for step in lessons.steps(noisy_sums, settings.sloppy_steps, settings.sloppy_learning_rate):
            report(settings.careful_steps + step, settings.steps)
    return model.eval()


class _Lessons:
    """Takes optimizer steps on batches of questions that a teacher answers."""

    def __init__(
        self,
        model: LlamaForCausalLM,
        encoder: Encoder,
        questions: Sequence[Question],
        settings: WarmStart,
        generator: torch.Generator,
    ) -> None:
        self.model, self.encoder, self.settings, self.generator = model, encoder, settings, generator
        self.prompts = encoder.prompts(questions)
        self.operands = torch.tensor([(q.left, q.right) for q in questions])

    def steps(self, teacher: Teacher, steps: int, learning_rate: float) -> Iterator[int]:
        """Yield the number of steps done after each one.

        Each teacher starts a new optimizer: the old one's tiny second moments would make the first steps huge.
        """
        optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=learning_rate, betas=_BETAS, weight_decay=_WEIGHT_DECAY, fused=True
        )
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = learning_rate * _schedule(step, steps, self.settings.warmup_steps)
            rows = torch.randint(len(self.prompts), (self.settings.batch_size,), generator=self.generator)
            left, right = self.operands[rows].unbind(1)
            targets = self.encoder.answers(teacher(left, right, self.settings, self.generator))
            logits = _answer_logits(self.model, self.prompts[rows], targets)
            loss = cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=self.encoder.pad)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimizer.step()
            yield step + 1


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


def _schedule(step: int, steps: int, warmup_steps: int) -> float:
    """Linear warm-up, then a cosine down to 5 %."""
    return min(1.0, (step + 1) / warmup_steps) * (0.525 + 0.475 * math.cos(math.pi * step / steps))


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Fix the random state, the thread count and the kernels of torch, and put the caller's back afterwards.

    One thread: the result does not depend on the machine's cores, and tiny operations gain little from a second one
    but wait for it without end on a busy machine.
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
