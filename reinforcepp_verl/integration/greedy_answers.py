"""Keeps the greedy answers of ReMax out of the batch: only their scores reach the estimator.

Nothing that trains or is logged counts them: group filters, mini-batches, denominators of the loss, metrics. If a
greedy answer fails, verl counts its group as failed (`max_failed_fraction`). The group is replaced if failed groups are
(`sync_refill_failed_groups`, and always in the asynchronous modes); otherwise its other answers get 0.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from statistics import fmean
from typing import Any

import transfer_queue as tq
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from reinforcepp_verl.integration.greedy_rollouts import GREEDY_TAG
from reinforcepp_verl.integration.row_totals import SCORES


class GreedyAnswers(ReplayBuffer):
    """Mixed into verl's replay buffers: separates the rows with the tag `greedy_baseline` from the others."""

    greedy_scores: dict[str, float]
    """The score of the greedy answer to each prompt of the newest training batch, by uid."""
    keeps_greedy_rows = False
    """Set by our trainer, which then reads some of the rows and calls `clear_greedy_rows` at the end of each step."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.greedy_scores = {}
        self._greedy_rows: dict[str, dict[str, dict]] = defaultdict(dict)
        self.scored_greedy_rows: dict[str, list[str]] = defaultdict(list)
        """Those of the step so far that are kept, by uid."""
        self._kept_keys: list[str] = []

    def _sync_metadata_from_transfer_queue(self) -> None:
        super()._sync_metadata_from_transfer_queue()
        self._greedy_rows.clear()
        for partition_id, rows in self.partitions.items():
            greedy = {key: tag for key, tag in rows.items() if tag.get(GREEDY_TAG)}
            self._greedy_rows[partition_id] = greedy
            for key in greedy:
                del rows[key]

    def _clear_groups(self, partition_id: str, uids: set[str]) -> None:
        super()._clear_groups(partition_id, uids)
        if keys := self._greedy_rows_of(partition_id, uids):
            tq.kv_clear(partition_id=partition_id, keys=keys)

    def _terminal_eviction_reasons(
        self, global_steps: int, partition_id: str
    ) -> tuple[set[str], set[str], set[str], Counter]:
        # verl's sync mode replaces groups without any row; one without a greedy answer is of no use either.
        stale, filtered, failed, counts = super()._terminal_eviction_reasons(global_steps, partition_id)
        if self.sync_refill_failed_groups and partition_id == "train" and self._greedy_rows[partition_id]:
            rows = self._greedy_rows[partition_id].items()
            failed |= self.failure_keys[partition_id] - {_uid(key) for key, tag in rows if _is_scored(tag)}
        return stale, filtered, failed, counts

    def _materialize_batch(
        self, partition_id: str, selected_prompt_uids: list[str], partition_snapshot: dict[str, dict]
    ) -> KVBatchMeta:
        batch = super()._materialize_batch(partition_id, selected_prompt_uids, partition_snapshot)
        keys = self._greedy_rows_of(partition_id, selected_prompt_uids)
        if partition_id == "train":
            scored = [key for key in keys if _is_scored(self._greedy_rows[partition_id][key])]
            self.greedy_scores = _mean_scores(scored, partition_id) if scored else {}
            if self.keeps_greedy_rows:
                self._keep(keys, scored)
                return batch
        if keys:
            tq.kv_clear(partition_id=partition_id, keys=keys)
        return batch

    def clear_greedy_rows(self) -> None:
        """Clear the rows that were kept in this step."""
        if self._kept_keys:
            tq.kv_clear(partition_id="train", keys=self._kept_keys)
        self._kept_keys = []
        self.scored_greedy_rows.clear()

    def _keep(self, keys: list[str], scored: list[str]) -> None:
        self._kept_keys += keys
        for key in scored:
            self.scored_greedy_rows[_uid(key)].append(key)

    def _greedy_rows_of(self, partition_id: str, uids: Iterable[str]) -> list[str]:
        wanted = set(uids)
        return [key for key in self._greedy_rows[partition_id] if _uid(key) in wanted]


def _is_scored(tag: dict) -> bool:
    # A row whose session failed may have the mark of the greedy answer only.
    return tag.get("status") == "success"


def _mean_scores(keys: list[str], partition_id: str) -> dict[str, float]:
    """Return the mean score of each prompt's rows: a greedy session may have several."""
    column = tq.kv_batch_get(keys=keys, partition_id=partition_id, select_fields=[SCORES])[SCORES]
    scores: dict[str, list[float]] = defaultdict(list)
    for key, row in zip(keys, column.unbind(), strict=True):
        scores[_uid(key)].append(row.sum().item())
    return {uid: fmean(of_rows) for uid, of_rows in scores.items()}


def _uid(key: str) -> str:
    return key.split("_")[0]
