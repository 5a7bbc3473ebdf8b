"""Schema of prepared rows: verl's columns, the same for every source, so that files can be mixed."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

Row = dict[str, Any]
Message = dict[str, str]

CHAT = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
QUESTIONS = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", CHAT),
        ("ability", pa.string()),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
        ("extra_info", pa.struct([("split", pa.string()), ("index", pa.int64()), ("question", pa.string())])),
    ]
)
# Pairs keep verl's columns, so that their prompts can also be used for training with a reward model.
PAIRS = pa.schema([*QUESTIONS, ("chosen", CHAT), ("rejected", CHAT)])


class UnusableRowError(ValueError):
    """A row of the source that cannot be converted; the message is a reason shared by many rows."""
