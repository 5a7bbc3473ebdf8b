"""Schema of prepared rows: verl's columns, the same for every source, so that files can be mixed.

Only a source with several right answers to a question differs: its ground truths are lists.
"""

from __future__ import annotations

from collections.abc import Sequence
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

# Explicit, because the bytes depend on them and pyarrow's defaults may change.
WRITER: dict[str, Any] = {
    "version": "2.6",
    "data_page_version": "1.0",
    "compression": "snappy",
    "use_dictionary": True,
    "write_statistics": True,
    "row_group_size": 10_000,
    "store_schema": True,
}


def with_uniform_truths(rows: Sequence[Row]) -> list[Row]:
    """Return the rows with a list of right answers in each if any has one."""
    if not any(isinstance(row["reward_model"]["ground_truth"], list) for row in rows):
        return list(rows)
    return [row | {"reward_model": row["reward_model"] | {"ground_truth": truths(row)}} for row in rows]


def truths(row: Row) -> list[str]:
    """Return the right answers of a row."""
    truth = row["reward_model"]["ground_truth"]
    return truth if isinstance(truth, list) else [truth]


def to_table(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    """Return the rows as a table; their right answers are texts, or all are lists."""
    if rows and isinstance(rows[0]["reward_model"]["ground_truth"], list):
        several = pa.struct([("style", pa.string()), ("ground_truth", pa.list_(pa.string()))])
        schema = schema.set(schema.get_field_index("reward_model"), pa.field("reward_model", several))
    return pa.Table.from_pylist(rows, schema=schema)


class UnusableRowError(ValueError):
    """A row of the source that cannot be converted; the message is a reason shared by many rows."""
