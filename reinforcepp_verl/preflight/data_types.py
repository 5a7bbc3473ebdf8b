"""The column types of several files of one split, which verl's loader joins with `datasets.concatenate_datasets`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from reinforcepp_verl.preflight.data_table import Table


def disagreements(tables: Sequence[Table]) -> list[str]:
    """Return the columns whose types the loader refuses to join; a file may lack a column or have no values in it."""
    known: dict[str, tuple[Table, pa.DataType]] = {}
    found = []
    for table in tables:
        for column, given in table.types.items():
            if pa.types.is_null(given):
                continue
            first, expected = known.setdefault(column, (table, given))
            if not _can_join(_described(expected), _described(given)):
                found.append(
                    f"{table.file} has {column} as {given}, but {first.file} as {expected}; write both with one type"
                )
    return found


def _can_join(one: Any, other: Any) -> bool:
    if "null" in (one, other):
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_can_join(one[name], other[name]) for name in one.keys() & other.keys())
    return bool(one == other)


def _described(given: pa.DataType) -> Any:
    """Describe a type as `datasets` sees it: the order and nullability of fields are not part of it."""
    if pa.types.is_struct(given):
        return {field.name: _described(field.type) for field in given}
    if pa.types.is_dictionary(given):
        return _described(given.value_type)
    if pa.types.is_list(given) or pa.types.is_large_list(given):
        return (pa.types.is_large_list(given), _described(given.value_type))
    return str(given)
