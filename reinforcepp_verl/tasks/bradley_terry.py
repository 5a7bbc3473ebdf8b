"""Trains a Bradley-Terry reward model on pairs of chats, from the weights of a language model.

The chosen answer is preferred with the probability sigmoid(score of the chosen - score of the rejected).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

from reinforcepp_verl.tasks.warm_start import Progress, reproducible

Chat = list[dict[str, str]]
_MEASURED_AT_ONCE = 256


@dataclass(frozen=True)
class RewardModelTraining:
    """Length and rate of the training."""

    steps: int = 500
    batch_size: int = 64
    learning_rate: float = 1e-3
    warmup_steps: int = 20


@dataclass(frozen=True)
class Pairs:
    """Tokens of the chosen and the rejected chats `(N, 2, T)`, padded at their end, and their lengths `(N, 2)`."""

    tokens: Tensor
    lengths: Tensor

    def rows(self, rows: Tensor) -> Pairs:
        """Return some of them, without padding that none of them needs."""
        lengths = self.lengths[rows]
        return Pairs(self.tokens[rows, :, : int(lengths.max())], lengths)

    def __len__(self) -> int:
        return len(self.tokens)


def encode(tokenizer: PreTrainedTokenizerFast, pairs: Sequence[tuple[Chat, Chat]]) -> Pairs:
    """Tokenize whole chats, as verl's reward workers do."""
    texts = [str(tokenizer.apply_chat_template(chat, tokenize=False)) for pair in pairs for chat in pair]
    rows = [torch.tensor(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    tokens = pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id)
    lengths = torch.tensor([len(row) for row in rows])
    return Pairs(tokens.view(len(pairs), 2, -1), lengths.view(-1, 2))


def loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Return the mean negative log-likelihood of the preferences, from scores `(B,)`."""
    return -logsigmoid(chosen - rejected).mean()


def build_model(policy: LlamaForCausalLM) -> LlamaForSequenceClassification:
    """Build a model with one label from the policy's weights; its head starts at 0.

    The label is read at the last token, as vLLM does.
    """
    config = copy.deepcopy(policy.config)
    config.num_labels = 1
    model = LlamaForSequenceClassification(config)
    model.model.load_state_dict(policy.model.state_dict())
    torch.nn.init.zeros_(model.score.weight)
    return model


def train(
    policy: LlamaForCausalLM,
    pairs: Pairs,
    *,
    seed: int,
    settings: RewardModelTraining,
    progress: Progress | None = None,
) -> LlamaForSequenceClassification:
    """Train on pairs; the same seed and settings give the same weights."""
    report = progress or (lambda done, total: None)
    with reproducible(seed):
        model = build_model(policy)
        optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=0.01, fused=True)
        for step in range(settings.steps):
            warm, left = (step + 1) / settings.warmup_steps, 1 - step / settings.steps
            optimizer.param_groups[0]["lr"] = settings.learning_rate * min(1.0, warm) * left
            found = scores(model, pairs.rows(torch.randint(len(pairs), (settings.batch_size,))))
            optimizer.zero_grad()
            loss(*found.unbind(1)).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            report(step + 1, settings.steps)
    return model.eval()


def scores(model: LlamaForSequenceClassification, pairs: Pairs) -> Tensor:
    """Return the scores of both chats of each pair `(B, 2)`."""
    tokens, lengths = pairs.tokens.flatten(0, 1), pairs.lengths.flatten()
    attended = torch.arange(tokens.shape[1]) < lengths[:, None]
    return model(input_ids=tokens, attention_mask=attended.long(), use_cache=False).logits.view(-1, 2)


@torch.no_grad()
def margins(model: LlamaForSequenceClassification, pairs: Pairs) -> Tensor:
    """Return the score of the chosen chat of each pair minus that of the rejected one `(N,)`."""
    parts = [scores(model, pairs.rows(rows)) for rows in torch.arange(len(pairs)).split(_MEASURED_AT_ONCE)]
    return torch.cat([part[:, 0] - part[:, 1] for part in parts])
