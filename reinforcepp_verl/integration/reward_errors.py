"""Counts the answers of a batch that could not be scored, and ends the run if there are too many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import transfer_queue as tq

from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reward_error_options import RewardErrorOptions
from reinforcepp_verl.rewards.failures import (
    ERROR_KEY,
    EXCEPTION_PREFIX,
    NO_ANSWER_KEY,
    TIMEOUT_KEY,
    TRUNCATED_KEY,
    is_faulty_ground_truth,
)

if TYPE_CHECKING:
    from transfer_queue import KVBatchMeta

RATES = {
    "reward/error_rate": ERROR_KEY,
    "reward/timeout_rate": TIMEOUT_KEY,
    "reward/no_answer_rate": NO_ANSWER_KEY,
    "response/truncated_ratio": TRUNCATED_KEY,
}


class RewardFailureError(RuntimeError):
    """The reward function could not score more answers than `reward_errors` allows."""


class RewardErrorMonitor:
    """Checks the flags that the reward manager set on the answers of each batch."""

    def __init__(self, options: RewardErrorOptions) -> None:
        self.options = options
        self._errors_above_limit = 0

    def update(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """Return the rates over `rows`, one mapping per answer. Rows of other reward managers are ignored.

        Raises:
            RewardFailureError: the rate of errors exceeds `max_rate`, with `min_count` errors or more
        """
        scored = [row for row in rows if row.get(ERROR_KEY) is not None]
        self._check([row for row in scored if row[ERROR_KEY]], len(scored))
        flags = {name: [row[key] for row in scored if row.get(key) is not None] for name, key in RATES.items()}
        return {name: sum(values) / len(values) for name, values in flags.items() if values}

    def _check(self, failed: list[Mapping[str, Any]], answers: int) -> None:
        above = len(failed) > self.options.max_rate * answers
        self._errors_above_limit = self._errors_above_limit + len(failed) if above else 0
        if above and self._errors_above_limit >= self.options.min_count:
            raise RewardFailureError(
                f"{len(failed)} of {answers} answers could not be scored, more than {keys.REWARD_ERRORS}.max_rate="
                f"{self.options.max_rate} allows; the first: {failed[0]['error'].removeprefix(EXCEPTION_PREFIX)}; "
                f"{_remedy(failed[0]['error'])}"
            )


def _remedy(error: str) -> str:
    """Return the fix, which differs for an exception, a faulty ground truth and an exceeded limit."""
    if error.startswith(EXCEPTION_PREFIX):
        return f"correct the reward function ({keys.CUSTOM_REWARD_FUNCTION}); the log holds the first tracebacks"
    if is_faulty_ground_truth(error):
        return "correct the column reward_model.ground_truth of the data"
    return f"the reward function exceeded a limit: see its options ({keys.REWARD_KWARGS})"


def read_extra_fields(batch: KVBatchMeta) -> list[dict[str, Any]]:
    """Return verl's extra fields of each row, which hold what the reward manager returned."""
    data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["extra_fields"])
    return data.pop("extra_fields").tolist()


def reward_infos(batch: KVBatchMeta, extra_fields: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the reward manager's flags per answer: without padding rows, and with one answer per session."""
    rows = zip(batch.keys, batch.tags, extra_fields, strict=True)
    sessions = {key.rsplit("_", 1)[0]: fields for key, tag, fields in rows if not tag.get("is_padding")}
    return [fields["reward_extra_info"] for fields in sessions.values() if "reward_extra_info" in fields]


def validation_reward_infos(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return the same from the columns that verl collects; without the column there was no error."""
    flags, texts = (columns.get(name, ()) for name in (ERROR_KEY, "error"))
    return [{ERROR_KEY: flag, "error": text} for flag, text in zip(flags, texts, strict=False)]
