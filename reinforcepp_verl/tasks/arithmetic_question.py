"""One addition, as verl rows hold it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Question:
    """One question, both operands in 10..99."""

    left: int
    right: int

    @property
    def messages(self) -> list[dict[str, str]]:
        """The question as a chat of one message."""
        return [{"role": "user", "content": f"{self.left}+{self.right}="}]

    @property
    def answer(self) -> str:
        """The right answer."""
        return str(self.left + self.right)
