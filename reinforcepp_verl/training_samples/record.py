"""One kept prompt with its answers, a line of RUN/samples/STEP.jsonl.

Numbers that are NaN or infinite are null. Lists of a row have one value per token that is kept (T,).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

STOPPED, TRUNCATED = "stopped", "truncated"
"""Why an answer ends: the model (or its agent loop) stopped, or the answer has all tokens that are allowed."""

PerToken = list[float | None]


def cut_mark(tokens: int) -> str:
    """Return the text in the place of tokens that are not kept."""
    return f"[... {tokens} tokens left out ...]"


@dataclass(frozen=True)
class Row:
    """A row of the batch. An answer is one row, or several if its agent loop returns each turn separately."""

    token_ids: list[int]
    tokens: list[str]
    """The text that each token adds; "" for one that is only part of a character."""
    mask: list[int]
    """1 for the tokens that are trained on; 0 for those of a tool, and for those rejected by rollout correction."""
    prompt: str | None = None
    """What the model was given before this row, if that is not the prompt of the sample."""
    advantages: PerToken | None = None
    trainer_log_probs: PerToken | None = None
    """Of the policy before the update, computed by the trainer."""
    engine_log_probs: PerToken | None = None
    """Of the policy that sampled the token, computed by the rollout engine."""
    reference_log_probs: PerToken | None = None
    scores: PerToken | None = None
    """If the reward function or the agent loop scored tokens or steps."""
    left_out: int = 0
    """Number of tokens that are not kept, between `tokens[left_out_at - 1]` and `tokens[left_out_at]`."""
    left_out_at: int = 0

    @property
    def text(self) -> str:
        """The whole text, with a mark where tokens are left out."""
        start, end = "".join(self.tokens[: self.left_out_at]), "".join(self.tokens[self.left_out_at :])
        return f"{start}{cut_mark(self.left_out)}{end}" if self.left_out else end


@dataclass(frozen=True)
class Answer:
    """One answer to the prompt, with what the training made of it."""

    session: int
    """Its number among the answers to the prompt."""
    reward: float | None
    """The score, without the KL penalty; null if it is NaN or infinite."""
    length: int
    """Tokens of the model in all rows, also those that are not kept here."""
    end: str
    """`stopped` or `truncated`."""
    rows: list[Row]
    parts: dict[str, float | None] = field(default_factory=dict)
    """The numbers that the reward function returned beside the score."""
    texts: dict[str, str] = field(default_factory=dict)
    """The texts that it returned, such as the extracted answer."""
    error: str | None = None
    """Why the reward function could not score the answer."""
    advantage: float | None = None
    """Mean over the tokens that are trained on."""
    kl: float | None = None
    """Sum of log pi - log pi_ref over the tokens that are trained on; null without a reference model."""
    greedy: bool = False
    """True for the greedy answer of ReMax, which is the baseline and is not trained on."""
    dropped: bool = False
    """True if it is left out of the training, because its score or a log-probability is NaN or infinite."""

    @property
    def is_right(self) -> bool:
        """True for a score above 0, as in the metrics `reinforcepp/length_right` and `length_wrong`."""
        return self.reward is not None and self.reward > 0

    @property
    def is_truncated(self) -> bool:
        return self.end == TRUNCATED

    @property
    def text(self) -> str:
        """The text of all rows, one after the other."""
        return "\n".join(row.text for row in self.rows)


@dataclass(frozen=True)
class PromptSample:
    """A prompt of one training step with some of its answers."""

    step: int
    prompt: str
    """What the model was given, with special tokens; the middle of a long one is replaced by a mark."""
    answers: list[Answer]
    """By reward, the best one first; equal ones in the order in which they were sampled; a greedy one last."""
    sampled: int
    """Number of answers to the prompt in the batch; the greedy one does not count."""
    mean_reward: float | None
    """Over all of them."""
    reward_std: float | None
    """Over all of them, without Bessel's correction."""
    data_source: str | None = None
    ground_truth: str | None = None


_LINE = TypeAdapter(PromptSample)


def to_lines(samples: Sequence[PromptSample]) -> bytes:
    """Return samples as lines of JSON."""
    return b"".join(_LINE.dump_json(sample, exclude_defaults=True) + b"\n" for sample in samples)


def from_line(line: bytes) -> PromptSample:
    """Return the sample in a line of JSON; keys that are not known are ignored.

    Raises:
        ValueError: it is something else
    """
    try:
        return _LINE.validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"not a training sample: {where + ': ' if where else ''}{first['msg']}") from None
