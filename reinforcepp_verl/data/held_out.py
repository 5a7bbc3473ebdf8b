"""Splits rows off a training set as its validation set."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from reinforcepp_verl.data.rows import Row
from reinforcepp_verl.data.source_kinds import TEST


def check_size(size: float) -> None:
    """Refuse a size that is neither a number of rows nor a share of them."""
    if not math.isfinite(size) or size <= 0 or (size >= 1 and size != int(size)):
        raise ValueError(f"--val-size is {size:g}: it must be a number of rows, or a share between 0 and 1")


def split_off(rows: Sequence[Row], size: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Return the remaining rows and those split off, in their order; the same rows and seed give the same split."""
    count = round(size * len(rows)) if size < 1 else int(size)
    if not 0 < count < len(rows):
        raise ValueError(f"--val-size is {size:g}: that is {count} of {len(rows)} rows; both splits need at least one")
    chosen = set(random.Random(seed).sample(range(len(rows)), count))
    remaining = [row for number, row in enumerate(rows) if number not in chosen]
    return remaining, [_moved(row) for number, row in enumerate(rows) if number in chosen]


def _moved(row: Row) -> Row:
    return row | {"extra_info": row["extra_info"] | {"split": TEST}}
