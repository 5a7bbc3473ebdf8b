"""One question for running sums, as in verl's rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True)
class RunningSums:
    """Numbers from 1 to 9 to add up."""

    numbers: tuple[int, ...]

    @property
    def messages(self) -> list[dict[str, str]]:
        """The question as a chat with one message."""
        return [{"role": "user", "content": f"{'+'.join(map(str, self.numbers))}="}]

    @property
    def answer(self) -> str:
        """The right answer: all sums on the way."""
        return answer_text(list(accumulate(self.numbers))[1:])


def answer_text(sums: Iterable[int]) -> str:
    """Return the text of an answer with these sums."""
    return "".join(f"{number};" for number in sums)
