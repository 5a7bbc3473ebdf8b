"""Warm-starts the model of the sums by size, with the teachers of the running sums."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from reinforcepp_verl.tasks import running_sums_model, warm_start
from reinforcepp_verl.tasks.running_sums_model import Demonstrations, RunningSumsWarmStart
from reinforcepp_verl.tasks.running_sums_question import RunningSums
from reinforcepp_verl.tasks.warm_start import Accuracy, Progress

_PROBE_QUESTIONS_PER_SIZE = 128


@dataclass(frozen=True)
class SumsBySizeWarmStart(RunningSumsWarmStart):
    """Longer, for more sizes; the sloppy teacher errs less often, because a long sum has many steps."""

    batch_size: int = 64
    careful_steps: int = 3000
    forgotten_carry: float = 0.4
    wrong_last_digit: float = 0.15


def by_size(questions: Sequence[RunningSums]) -> dict[int, list[RunningSums]]:
    """Return the questions by how many numbers they add, the shortest first."""
    groups = defaultdict(list)
    for question in questions:
        groups[len(question.numbers)].append(question)
    return dict(sorted(groups.items()))


def train(
    questions: Sequence[RunningSums],
    tokenizer: PreTrainedTokenizerFast,
    *,
    seed: int,
    settings: SumsBySizeWarmStart,
    progress: Progress | None = None,
) -> LlamaForCausalLM:
    """Train a model to answer the questions; the same seed and settings give the same weights."""
    groups = by_size(questions).values()
    demonstrations = [Demonstrations(group, tokenizer, settings) for group in groups]
    probe = [question for group in groups for question in group[:_PROBE_QUESTIONS_PER_SIZE]]

    def teacher(size: int, generator: torch.Generator, *, sloppy: bool) -> tuple[Tensor, Tensor]:
        """Demonstrate answers to questions of one size."""
        chosen = int(torch.randint(len(demonstrations), (), generator=generator))
        return demonstrations[chosen].batch(size, generator, sloppy=sloppy)

    return warm_start.train(
        tokenizer,
        teacher,
        lambda model: measure(model, tokenizer, probe).sampled,
        seed=seed,
        settings=settings,
        progress=progress,
    )


def measure(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, questions: Sequence[RunningSums]) -> Accuracy:
    """Compute both accuracies exactly, without sampling: the mean over sizes."""
    found = [running_sums_model.measure(model, tokenizer, group) for group in by_size(questions).values()]
    return Accuracy(
        sampled=sum(accuracy.sampled for accuracy in found) / len(found),
        greedy=sum(accuracy.greedy for accuracy in found) / len(found),
    )
