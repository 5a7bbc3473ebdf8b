"""Reads a dialogue that is one text, `\\n\\nHuman: ...\\n\\nAssistant: ...`: the form of Anthropic's HH-RLHF."""

from __future__ import annotations

import re

from reinforcepp_verl.data.rows import Message, UnusableRowError

ROLES = {"Human": "user", "Assistant": "assistant"}
_SPEAKER = re.compile(rf"(?:^|\n\n)({'|'.join(ROLES)}):")


def messages(text: str) -> list[Message]:
    """Return the dialogue as a chat."""
    before, *turns = _SPEAKER.split(text)
    if before.strip() or not turns:
        raise UnusableRowError("the text does not begin with Human: or Assistant:")
    return [
        {"role": ROLES[speaker], "content": said.strip()} for speaker, said in zip(turns[::2], turns[1::2], strict=True)
    ]
