"""One addition question, as in verl's rows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Addition:
    """One question, both operands in 10..99."""

    left: int
    right: int

    @property
    def messages(self) -> list[dict[str, str]]:
        """The question as a chat with one message."""
        return [{"role": "user", "content": f"{self.left}+{self.right}="}]

    @property
    def answer(self) -> str:
        """The correct answer."""
        return str(self.left + self.right)
