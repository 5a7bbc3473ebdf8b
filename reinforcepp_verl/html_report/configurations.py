"""The configurations of the runs, key by key: what differs, and what is the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

NOT_SET = "—"


@dataclass(frozen=True)
class Compared:
    """`different` has a key's value in each run, `same` the value in all of them."""

    different: dict[str, list[str]]
    same: dict[str, str]


def compare(configs: Sequence[dict[str, Any]]) -> Compared:
    """Compare configurations, given by their dotted keys."""
    keys = dict.fromkeys(key for config in configs for key in config)
    shown = {key: [_shown(config[key]) if key in config else NOT_SET for config in configs] for key in keys}
    return Compared(
        {key: values for key, values in shown.items() if len(set(values)) > 1},
        {key: values[0] for key, values in shown.items() if len(set(values)) == 1},
    )


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
