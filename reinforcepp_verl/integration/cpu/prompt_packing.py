"""Puts the answers to one prompt behind one copy of it, so that a model computes the prompt once.

    prompt  answer 1  answer 2  answer 3

A token of an answer attends to the prompt and to its own answer, at the position it has in its own row, so that every
token's log-probability is the one of the separate rows, up to rounding. Needs a model whose layers mix tokens by plain
attention only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

# Segments of a packed row: padding, the prompt, then the answers.
PADDING, PROMPT = -1, 0
# The length at which attention is about as much work as the rest: six times the width of a small model, SmolLM2's 576.
ATTENTION_LENGTH = 3500


@dataclass(frozen=True)
class Packing:
    """Where the tokens of a jagged batch lie in its packed rows, and where their answers' predictions are.

    A batch of `B` rows has `N` tokens, `A` of them in answers; it fills `G` packed rows of at most `T` tokens.
    """

    source: torch.Tensor
    """(G, T), the index of each packed token among the `N`; 0 where there is only padding."""
    segment: torch.Tensor
    """(G, T), `PROMPT`, the number of the answer, or `PADDING`."""
    columns: torch.Tensor
    """(K,), the columns of packed rows from which an answer's token is predicted, ascending."""
    predictor: torch.Tensor
    """(A,), for each token of an answer, the index of its prediction among `G * K`."""
    target: torch.Tensor
    """(A,), its own index among the `N`."""
    row: torch.Tensor
    """(A,), the row of the batch it belongs to."""

    def attention_mask(self) -> torch.Tensor:
        """Return which token (last dimension) each token attends to: bool, `(G, 1, T, T)`."""
        of_query, of_key = self.segment[:, :, None], self.segment[:, None, :]
        seen = (of_key == of_query) | ((of_key == PROMPT) & (of_query > PROMPT))
        # Padding attends to padding: a row of the mask without any True would give NaN.
        return (seen & torch.ones_like(seen).tril())[:, None]


def pack(values: torch.Tensor, lengths: list[int], prompt_lengths: list[int]) -> Packing | None:
    """Plan the packed rows of a jagged batch, one for each different prompt; None if that is more work than its rows.

    Args:
        values: `(N,)`, the token ids of all rows, one after another
        lengths: tokens of each row, `B` of them
        prompt_lengths: how many of these are the prompt, at least one

    Raises:
        ValueError: a prompt without tokens, which leaves the first token of an answer without a prediction
    """
    if min(prompt_lengths) < 1:
        raise ValueError("a prompt has no tokens")
    rows = values.split(lengths)
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, (tokens, prompt) in enumerate(zip(rows, prompt_lengths, strict=True)):
        groups.setdefault(tuple(tokens[:prompt].tolist()), []).append(row)
    answers = [length - prompt for length, prompt in zip(lengths, prompt_lengths, strict=True)]
    width = max(len(prompt) + sum(answers[row] for row in members) for prompt, members in groups.items())
    no_answer = sum(answers) == 0
    if no_answer or _work(len(groups), width) > _work(len(lengths), max(lengths)):
        return None
    return _plan(groups, width, answers, lengths)


def _work(rows: int, length: int) -> float:
    """Return the work of a forward pass, in tokens: attention grows with the square of a row's length."""
    return rows * length * (1 + length / ATTENTION_LENGTH)


def _plan(groups: dict[tuple[int, ...], list[int]], width: int, answers: list[int], lengths: list[int]) -> Packing:
    starts = [sum(lengths[:row]) for row in range(len(lengths))]
    source = torch.zeros(len(groups), width, dtype=torch.long)
    segment = torch.full((len(groups), width), PADDING)
    predictor_row: list[int] = []
    predictor_column: list[int] = []
    target: list[int] = []
    row_of: list[int] = []
    for packed, (prompt, members) in enumerate(groups.items()):
        end = len(prompt)
        source[packed, :end] = starts[members[0]] + torch.arange(end)
        segment[packed, :end] = PROMPT
        for number, row in enumerate(members, start=1):
            count, first = answers[row], starts[row] + len(prompt)
            source[packed, end : end + count] = first + torch.arange(count)
            segment[packed, end : end + count] = number
            predictor_row += [packed] * count
            predictor_column += [len(prompt) - 1, *range(end, end + count - 1)][:count]
            target += range(first, first + count)
            row_of += [row] * count
            end += count
    columns, index = torch.tensor(predictor_column, dtype=torch.long).unique(return_inverse=True)
    predictor = torch.tensor(predictor_row, dtype=torch.long) * len(columns) + index
    return Packing(source, segment, columns, predictor, torch.tensor(target), torch.tensor(row_of))
