"""The rows of a data file: none may lack a prompt, its role or content, a data source or a ground truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from reinforcepp_verl.config import keys
from reinforcepp_verl.preflight.data_table import Batch, Table, rows_of

REWARD_MODEL, GROUND_TRUTH, EXTRA_INFO = "reward_model", "ground_truth", "extra_info"


@dataclass(frozen=True)
class Needed:
    """What every row needs."""

    prompt: str
    source: str
    ground_truth: bool


class Fault(NamedTuple):
    """What is wrong with a row. Faults of several rows with the same fix are reported together."""

    what: str
    fix: str


def faults(table: Table, needed: Needed) -> tuple[list[str], int]:
    """Return a message for each kind of fault, which continues "FILE", and the number of rows."""
    first: dict[str, tuple[int, str]] = {}
    counts: dict[str, int] = {}
    rows = 0
    wanted = (needed.prompt, needed.source, REWARD_MODEL, EXTRA_INFO)
    for batch in table.batches([column for column in wanted if column in table.types]):
        for number, fault in _of_batch(batch, needed):
            first.setdefault(fault.fix, (rows + number, fault.what))
            counts[fault.fix] = counts.get(fault.fix, 0) + 1
        rows += len(batch)
    return [f", row {number}: {what}{_such(counts[fix])}; {fix}" for fix, (number, what) in first.items()], rows


def _such(count: int) -> str:
    return f" ({count} such rows)" if count > 1 else ""


def _of_batch(batch: Batch, needed: Needed) -> Iterator[tuple[int, Fault]]:
    if not (isinstance(batch, pa.Table) and _is_complete(batch, needed)):
        for number, row in enumerate(rows_of(batch)):
            yield from ((number, fault) for fault in _of_row(row or {}, needed))


def _is_complete(table: pa.Table, needed: Needed) -> bool:
    """Return True if Arrow's counts of nulls already show that no row has a fault."""
    tests: dict[str, Callable[[pa.Array], bool]] = {
        needed.source: lambda column: column.null_count == 0,
        needed.prompt: _has_messages,
        EXTRA_INFO: lambda column: pa.types.is_struct(column.type) or pa.types.is_null(column.type),
        **({REWARD_MODEL: _has_ground_truth} if needed.ground_truth else {}),
    }
    present = [name for name in tests if name in table.column_names]
    if len(present) + (EXTRA_INFO not in present) < len(tests):
        return False
    return all(tests[name](chunk) for name in present for chunk in table.column(name).chunks)


def _has_messages(column: pa.Array) -> bool:
    return _is_list(column) and _none_empty(column) and _is_struct_with(column.flatten(), "role", "content")


def _has_ground_truth(column: pa.Array) -> bool:
    if not _is_struct_with(column, GROUND_TRUTH):
        return False
    truths = column.field(column.type.get_field_index(GROUND_TRUTH))
    return not _is_list(truths) or _none_empty(truths)


def _is_list(column: pa.Array) -> bool:
    return pa.types.is_list(column.type) or pa.types.is_large_list(column.type)


def _none_empty(lists: pa.Array) -> bool:
    return lists.null_count == 0 and bool(pc.all(pc.greater(pc.list_value_length(lists), 0)).as_py())


def _is_struct_with(column: pa.Array, *fields: str) -> bool:
    if not pa.types.is_struct(column.type) or column.null_count:
        return False
    positions = [column.type.get_field_index(field) for field in fields]
    return all(position >= 0 and column.field(position).null_count == 0 for position in positions)


def _of_row(row: dict[str, Any], needed: Needed) -> Iterator[Fault]:
    if row.get(needed.source) is None:
        yield Fault(f"{keys.REWARD_FN_KEY}={needed.source} is null", "it must name where the row is from")
    what = _of_prompt(row.get(needed.prompt))
    if what is not None:
        yield Fault(f"{keys.PROMPT_KEY}={needed.prompt} {what}", "it must be a list of {role, content}")
    if not isinstance(row.get(EXTRA_INFO), dict | None):
        yield Fault(f"{EXTRA_INFO} is {_shown(row[EXTRA_INFO])}", "it must be a struct, such as {index: 0}")
    if needed.ground_truth:
        yield from _of_reward_model(row.get(REWARD_MODEL))


def _of_prompt(messages: Any) -> str | None:
    if not (isinstance(messages, list) and messages):
        return f"is {_shown(messages)}"
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            return f"has {_shown(message)} as message {number}"
        missing = next((field for field in ("role", "content") if message.get(field) is None), None)
        if missing is not None:
            return f"has no {missing} in message {number}"
    return None


def _of_reward_model(given: Any) -> Iterator[Fault]:
    fix = f"add {REWARD_MODEL}.{GROUND_TRUTH}, which the reward function needs"
    if given is not None and not isinstance(given, dict):
        yield Fault(f"{REWARD_MODEL} is {_shown(given)}, not a struct", fix)
    elif given is None or given.get(GROUND_TRUTH) in (None, []):
        yield Fault(f"{REWARD_MODEL}.{GROUND_TRUTH} is {_shown((given or {}).get(GROUND_TRUTH))}", fix)


def _shown(given: Any) -> str:
    return "null" if given is None else repr(given)[:60]
