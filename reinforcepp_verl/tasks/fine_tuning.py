"""Fine-tunes a chat model on a few hundred demonstrations, until its accuracy is one that can improve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from reinforcepp_verl.tasks.demonstrations import Demonstrations, Question
from reinforcepp_verl.tasks.warm_start import Accuracy, Progress, reproducible

PROBE_INTERVAL = 8
PROBE_QUESTIONS = 32
_BETAS = (0.9, 0.95)


@dataclass(frozen=True)
class FineTuning:
    """How long and on what: it ends at the sampled accuracy `enough` on training questions that it does not learn from.

    `steps` is a limit. The share `wrong` of the demonstrations has a wrong answer.
    """

    steps: int = 40
    batch_size: int = 16
    learning_rate: float = 2e-4
    warmup_steps: int = 5
    wrong: float = 0.25
    enough: float = 0.4


def fine_tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    questions: Sequence[Question],
    *,
    pad: int,
    seed: int,
    settings: FineTuning,
    progress: Progress,
) -> int:
    """Train all weights of the model in place, and return the number of demonstrations.

    The same seed and settings give the same weights. `pad` is a token that no chat has.
    """
    probe, taught = questions[:PROBE_QUESTIONS], questions[PROBE_QUESTIONS:]
    demonstrations = Demonstrations(taught, tokenizer, pad)
    with reproducible(seed):
        generator = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.AdamW(model.parameters(), betas=_BETAS, weight_decay=0.0, fused=True)
        for step in range(1, settings.steps + 1):
            optimizer.param_groups[0]["lr"] = settings.learning_rate * min(1.0, step / settings.warmup_steps)
            tokens, targets = demonstrations.batch(settings.batch_size, settings.wrong, generator)
            loss = cross_entropy(answer_logits(model, tokens, targets != pad), targets[targets != pad])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            progress(step, settings.steps)
            if step % PROBE_INTERVAL == 0 and measure(model, tokenizer, probe, pad).sampled >= settings.enough:
                break
    return step * settings.batch_size


def answer_logits(model: PreTrainedModel, tokens: Tensor, answers: Tensor) -> Tensor:
    """Return the logits `(M, V)` of the M positions that `answers` `(B, T)` selects.

    The tokens with which all sequences begin, such as the chat template's system message, are computed once. That and
    leaving out the other logits saves more than half of the time.
    """
    decoder, shared = model.get_decoder(), _shared_tokens(tokens, answers)
    cache = decoder(input_ids=tokens[:1, :shared], use_cache=True).past_key_values
    cache.batch_repeat_interleave(len(tokens))
    hidden = decoder(input_ids=tokens[:, shared:], past_key_values=cache).last_hidden_state
    return model.get_output_embeddings()(hidden[answers[:, shared:]])


def _shared_tokens(tokens: Tensor, answers: Tensor) -> int:
    """Return how many tokens all sequences begin with, before the first position of an answer."""
    same = (tokens == tokens[0]).all(0) & ~answers.any(0)
    return int(same.long().cumprod(0).sum())


@torch.no_grad()
def measure(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, questions: Sequence[Question], pad: int
) -> Accuracy:
    """Compute without sampling how often the model gives the right answers in the form of the demonstrations."""
    tokens, targets = Demonstrations(questions, tokenizer, pad).encode(questions)
    answers = targets != pad
    logits = answer_logits(model, tokens, answers)
    log_probs, right = torch.zeros(targets.shape), torch.ones(targets.shape, dtype=torch.bool)
    log_probs[answers] = -cross_entropy(logits, targets[answers], reduction="none")
    right[answers] = logits.argmax(-1) == targets[answers]
    return Accuracy(log_probs.sum(1).exp().mean().item(), right.all(1).float().mean().item())
