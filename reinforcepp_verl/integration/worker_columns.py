"""Sends training workers the columns that they compute with: tensors, and the inputs of images and audio.

verl sends every column of the TransferQueue, also messages and details of rewards, of which no worker reads any. Each
row of these is a Python object, which every worker receives, selects, splits and copies one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import transfer_queue as tq

if TYPE_CHECKING:
    from transfer_queue import KVBatchMeta

OBJECTS_THAT_MODELS_READ = frozenset({"multi_modal_inputs"})


def only_for_workers(batch: KVBatchMeta) -> KVBatchMeta:
    """Restrict the columns of a batch, in place, to those that workers read; return it."""
    found = tq.get_client().kv_retrieve_meta(keys=batch.keys, partition_id=batch.partition_id, create=False)
    batch.fields = [
        name
        for name, column in found.field_schema.items()
        # `is_non_tensor` is forgotten when a partition is emptied; only tensors have a dtype.
        if column["dtype"] is not None or name in OBJECTS_THAT_MODELS_READ
    ]
    return batch


class TensorsForWorkers:
    """Mixed into verl's trainers."""

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        return super()._compute_old_log_prob(only_for_workers(batch), metrics)  # type: ignore[misc]

    def _compute_ref_log_prob(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        return super()._compute_ref_log_prob(only_for_workers(batch), metrics)  # type: ignore[misc]

    def _compute_values(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        return super()._compute_values(only_for_workers(batch), metrics)  # type: ignore[misc]

    def _update_critic(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        return super()._update_critic(only_for_workers(batch), metrics)  # type: ignore[misc]

    def _update_actor(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        return super()._update_actor(only_for_workers(batch), metrics)  # type: ignore[misc]
