"""The tokenizer and warm-started model of the calculator task; its sloppy teacher uses the tool wrongly.

A session is one sequence, as verl's agent loop builds it: the model is trained on what it says, not on what it hears.
"""

from __future__ import annotations

import random
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from tokenizers import Regex, pre_tokenizers
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from reinforcepp_verl.tasks import small_tokenizer, warm_start
from reinforcepp_verl.tasks.calculator import REASONS
from reinforcepp_verl.tasks.calculator_question import (
    ANSWER_MARK,
    ARGUMENTS_END,
    ARGUMENTS_START,
    CALL_END,
    CALL_START,
    ERROR_PREFIX,
    Errors,
    Question,
    Turn,
    careful_session,
    sloppy_session,
)
from reinforcepp_verl.tasks.small_tokenizer import CHATML_TOKENS, TURN
from reinforcepp_verl.tasks.warm_start import Accuracy, Progress, WarmStart, accuracy_of, padded

ROLES = ("system", "user", "assistant", "tool")
PIECES = (
    *(CALL_START, CALL_END, ARGUMENTS_START, ARGUMENTS_END, ANSWER_MARK),
    *(f"{role}\n" for role in ROLES),
    *(f"{ERROR_PREFIX}{reason}" for reason in REASONS),
)
"""Texts that are one token; apart from them every character is one."""
# ChatML, as in Qwen, but without a newline between turns, which the model does not generate. Tools are not listed: the
# warm start has taught the only one.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content }}"
    "{% for call in message.tool_calls or [] %}"
    '{{ \'<tool_call>{"name": "\' + call.function.name + \'", "arguments": \' }}'
    "{{ call.function.arguments | tojson }}{{ '}</tool_call>' }}"
    "{% endfor %}{{ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_PROBE_QUESTIONS = 256


@dataclass(frozen=True)
class CalculatorWarmStart(WarmStart):
    """Training of both teachers, and the errors of the sloppy one."""

    batch_size: int = 32
    careful_steps: int = 600
    careful_learning_rate: float = 2e-3
    sloppy_steps: int = 60
    sloppy_learning_rate: float = 5e-4
    errors: Errors = field(default_factory=Errors)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build a tokenizer of all printable characters, in which the tool call's fixed texts are one token each."""
    escaped = "|".join(f"(?:{_escape(piece)})" for piece in sorted(PIECES, key=len, reverse=True))
    pieces = [*PIECES, *string.printable[:95], "\n"]
    split = pre_tokenizers.Split(Regex(rf"{escaped}|[\s\S]"), "isolated")
    return small_tokenizer.of_chats(pieces, split, max_length=192, template=CHAT_TEMPLATE)


def train(
    questions: Sequence[Question],
    tokenizer: PreTrainedTokenizerFast,
    *,
    seed: int,
    settings: CalculatorWarmStart,
    progress: Progress | None = None,
) -> LlamaForCausalLM:
    """Train a model to answer the questions in sessions with the tool."""
    encoder, draw = SessionEncoder(tokenizer), random.Random(seed)

    def demonstrate(size: int, generator: torch.Generator, *, sloppy: bool) -> tuple[Tensor, Tensor]:
        drawn = [questions[i] for i in torch.randint(len(questions), (size,), generator=generator).tolist()]
        if sloppy:
            return encoder.batch([(question, sloppy_session(question, settings.errors, draw)) for question in drawn])
        return encoder.batch([(question, careful_session(question)) for question in drawn])

    return warm_start.train(
        tokenizer,
        demonstrate,
        lambda model: measure(model, tokenizer, questions[:_PROBE_QUESTIONS]).sampled,
        seed=seed,
        settings=settings,
        progress=progress,
    )


class SessionEncoder:
    """Encodes sessions as the rollout does: each turn by itself, one after the other."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.pad = int(tokenizer.pad_token_id)

    def batch(self, sessions: Sequence[tuple[Question, Sequence[Turn]]]) -> tuple[Tensor, Tensor]:
        """Return tokens `(B, T)`, and `(B, T)` the next token where the model says it, elsewhere padding."""
        texts = [list(_texts(question, session)) for question, session in sessions]
        flat = iter(self.tokenizer([text for row in texts for text, _ in row], add_special_tokens=False)["input_ids"])
        tokens, targets = [], []
        for row in texts:
            ids: list[int] = []
            said: list[int] = []
            for _, is_said in row:
                ids += (piece := next(flat))
                said += piece if is_said else [self.pad] * len(piece)
            tokens.append(torch.tensor(ids[:-1]))
            targets.append(torch.tensor(said[1:]))
        return padded(tokens, self.pad), padded(targets, self.pad)


def measure(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, questions: Sequence[Question]) -> Accuracy:
    """Compute how often the model does what the careful teacher does, sampled and greedily, without sampling.

    A lower bound of the accuracy: other sessions may be right too.
    """
    encoder = SessionEncoder(tokenizer)
    inputs, targets = encoder.batch([(question, careful_session(question)) for question in questions])
    return accuracy_of(model, inputs, targets, encoder.pad)


def _texts(question: Question, session: Sequence[Turn]) -> Iterator[tuple[str, bool]]:
    """Yield the texts of a session, and whether the model says them."""
    start, end = f"{TURN}assistant\n", CHATML_TOKENS["eos_token"]
    yield f"{TURN}user\n{question.text}{end}{start}", False
    for turn in session:
        yield f"{turn.said}{end}", True
        if turn.heard is not None:
            yield f"{TURN}tool\n{turn.heard}{end}{start}", False


def _escape(text: str) -> str:
    """Escape a text for the tokenizer's regular expressions, which are Oniguruma's."""
    return "".join(f"\\{char}" if char in r"\.^$*+?{}[]()|" else char for char in text)
