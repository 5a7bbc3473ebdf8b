"""The rows of a data file: none may lack a prompt, its role or content, a data source or a ground truth.

Roles that chat templates do not know are a warning: most templates write any role into the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from reinforcepp_verl.common.wording import did_you_mean
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.preflight_options import MESSAGE_ROLES
from reinforcepp_verl.preflight.data_table import Batch, Table, rows_of
from reinforcepp_verl.preflight.findings import PreflightWarning

REWARD_MODEL, GROUND_TRUTH, EXTRA_INFO = "reward_model", "ground_truth", "extra_info"
ROLES = ("system", "developer", "user", "assistant", "tool")
MESSAGE = ("role", "content")
_HAS_TEXT = r"\S"


@dataclass(frozen=True)
class Needed:
    """What every row needs."""

    prompt: str
    source: str
    ground_truth: bool
    text_in_ground_truth: bool
    """False if a reward function of the user's own may do without."""


class Fault(NamedTuple):
    """What is wrong with a row. Faults of several rows with the same fix are reported together."""

    what: str
    fix: str
    warns: bool = False


def faults(table: Table, needed: Needed, file: str) -> tuple[list[str | PreflightWarning], int]:
    """Return a message for each kind of fault, which begins with `file`, and the number of rows."""
    first: dict[str, tuple[int, Fault]] = {}
    counts: dict[str, int] = {}
    rows = 0
    wanted = (needed.prompt, needed.source, REWARD_MODEL, EXTRA_INFO)
    for batch in table.batches([column for column in wanted if column in table.types]):
        for number, fault in _of_batch(batch, needed):
            first.setdefault(fault.fix, (rows + number, fault))
            counts[fault.fix] = counts.get(fault.fix, 0) + 1
        rows += len(batch)
    return [_message(file, number, fault, counts[fix]) for fix, (number, fault) in first.items()], rows


def _message(file: str, number: int, fault: Fault, count: int) -> str | PreflightWarning:
    message = f"{file}, row {number}: {fault.what}{_such(count)}; {fault.fix}"
    return PreflightWarning(MESSAGE_ROLES, message) if fault.warns else message


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
        **({REWARD_MODEL: partial(_has_ground_truth, needed.text_in_ground_truth)} if needed.ground_truth else {}),
    }
    present = [name for name in tests if name in table.column_names]
    if len(present) + (EXTRA_INFO not in present) < len(tests):
        return False
    return all(tests[name](chunk) for name in present for chunk in table.column(name).chunks)


def _has_messages(column: pa.Array) -> bool:
    if not (_is_list(column) and _none_empty(column) and _is_struct_with(messages := column.flatten(), *MESSAGE)):
        return False
    roles, contents = (messages.field(messages.type.get_field_index(field)) for field in MESSAGE)
    return (
        _are_texts(contents)
        and _are_texts(roles)
        and bool(pc.all(pc.is_in(roles, pa.array(ROLES, roles.type))).as_py())
    )


def _has_ground_truth(needs_text: bool, column: pa.Array) -> bool:
    if not _is_struct_with(column, GROUND_TRUTH):
        return False
    truths = column.field(column.type.get_field_index(GROUND_TRUTH))
    if _is_list(truths):
        if not _none_empty(truths):
            return False
        truths = truths.flatten()
    return not needs_text or (truths.null_count == 0 and (not _is_text(truths) or _are_texts(truths)))


def _is_text(column: pa.Array) -> bool:
    return pa.types.is_string(column.type) or pa.types.is_large_string(column.type)


def _are_texts(column: pa.Array) -> bool:
    """Return True for texts of which none is empty or blank."""
    return _is_text(column) and bool(pc.all(pc.match_substring_regex(column, _HAS_TEXT)).as_py())


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
    elif odd := next((message["role"] for message in row[needed.prompt] if message["role"] not in ROLES), None):
        fix = f"chat templates know {', '.join(ROLES)}, and most write any other word into the prompt"
        yield Fault(f"{keys.PROMPT_KEY}={needed.prompt} has the role {odd}{did_you_mean(odd, ROLES)}", fix, warns=True)
    if not isinstance(row.get(EXTRA_INFO), dict | None):
        yield Fault(f"{EXTRA_INFO} is {_shown(row[EXTRA_INFO])}", "it must be a struct, such as {index: 0}")
    if needed.ground_truth:
        yield from _of_reward_model(row.get(REWARD_MODEL), needed.text_in_ground_truth)


def _of_prompt(messages: Any) -> str | None:
    if not (isinstance(messages, list) and messages):
        return f"is {_shown(messages)}"
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            return f"has {_shown(message)} as message {number}"
        missing = next((field for field in MESSAGE if message.get(field) is None), None)
        if missing is not None:
            return f"has no {missing} in message {number}"
        role, content = message["role"], message["content"]
        if not isinstance(role, str) or _is_blank(role):
            return f"has {_shown(role)} as the role of message {number}"
        # A list has the parts of a message with images.
        if not isinstance(content, str | list) or content == [] or _is_blank(content):
            return f"has {_shown(content)} as the content of message {number}"
    return None


def _of_reward_model(given: Any, needs_text: bool) -> Iterator[Fault]:
    fix = f"add {REWARD_MODEL}.{GROUND_TRUTH}, which the reward function needs"
    if given is not None and not isinstance(given, dict):
        yield Fault(f"{REWARD_MODEL} is {_shown(given)}, not a struct", fix)
        return
    truth = (given or {}).get(GROUND_TRUTH)
    several = truth if isinstance(truth, list) else [truth]
    if truth in (None, []) or (needs_text and any(_is_blank(one) for one in several)):
        yield Fault(f"{REWARD_MODEL}.{GROUND_TRUTH} is {_shown(truth)}", fix)


def _is_blank(truth: Any) -> bool:
    return truth is None or (isinstance(truth, str) and not truth.strip())


def _shown(given: Any) -> str:
    return "null" if given is None else repr(given)[:60]
