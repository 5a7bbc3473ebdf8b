"""The config node `samples`: which training answers a run keeps for people to read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class SampleOptions:
    """The node `samples`: prompts and answers that the run keeps in `RUN/samples` and shows (docs/samples.md)."""

    groups_per_step: int = 4
    """Prompts kept of each step, evenly spread from the one whose answers differ most in reward to the one whose differ
    least; 0 keeps none."""
    answers_per_group: int = 8
    """Answers kept of each prompt, evenly spread from the highest reward to the lowest."""
    tokens_per_step: int = 8192
    """Tokens kept of each step, shared evenly: of prompts and answers with more than their share, the middle is left
    out."""
    max_megabytes: float = 256.0
    """Size of the folder beyond which steps are deleted: the oldest with an odd number first, then those divisible by 2
    only, by 4 only and so on, but never the first and the newest one."""
    console_every: int | None = None
    """Steps between two that show a prompt on the console with its best and worst answer, besides the first; 0 for
    never. null: 20 on a terminal, never in a file or a pipe."""
