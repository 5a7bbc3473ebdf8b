"""Writes what an agent loop worker has for the TransferQueue together: all that came during the write before.

verl writes each answer, and the beginning and end of each prompt, in a request of its own of two to four messages
between processes. With a small model on a few cores these take longer than the answers. A put still returns only when
it is written, so verl's order is kept, and a put with nothing before it waits for nothing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import torch

MODULE = "verl.trainer.ppo.v1.agent_loop_tq"
SWITCH = "REINFORCEPP_GATHER_PUTS"
"""Exported as 0, verl writes as it does, for comparison."""


def gather(module: Any) -> None:
    """Let verl's agent loop workers write through a `GatheringQueue`."""
    if os.environ.get(SWITCH) != "0" and not isinstance(module.tq, GatheringQueue):
        module.tq = GatheringQueue(module.tq, module.list_of_dict_to_tensordict)
        # Rows are put together before they become tensors.
        module.list_of_dict_to_tensordict = list


@dataclass
class _Batch:
    write: asyncio.Task[None]
    puts: int = 0
    keys: list[str] = field(default_factory=list)
    tags: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)


class GatheringQueue:
    """The functions of the TransferQueue that verl's agent loop workers use, in one event loop.

    Args:
        queue: the module `transfer_queue`
        to_tensordict: makes a TensorDict of a list of rows
    """

    def __init__(self, queue: Any, to_tensordict: Callable[[list[dict[str, Any]]], Any]) -> None:
        self.init = queue.init
        self._queue, self._to_tensordict = queue, to_tensordict
        self._open: dict[Hashable, _Batch] = {}
        self._one_at_a_time = asyncio.Lock()

    async def async_kv_put(self, *, key: str, partition_id: str, tag: dict[str, Any]) -> None:
        """Set the tag of a key."""
        await self._join(partition_id, [key], [tag], [])

    async def async_kv_batch_put(
        self, *, keys: list[str], fields: list[dict[str, Any]], tags: list[dict[str, Any]], partition_id: str
    ) -> None:
        """Write rows with their tags."""
        await self._join(partition_id, keys, tags, fields)

    async def _join(
        self, partition_id: str, keys: list[str], tags: list[dict[str, Any]], rows: list[dict[str, Any]]
    ) -> None:
        kind = (partition_id, frozenset(map(_columns, rows)))
        batch = self._open.get(kind)
        if batch is None:
            batch = self._open[kind] = _Batch(asyncio.create_task(self._write_open(partition_id, kind)))
        batch.puts += 1
        batch.keys.extend(keys)
        batch.tags.extend(tags)
        batch.rows.extend(rows)
        # Waiting this way, an answer that is given up does not take back those of others.
        await asyncio.wait([batch.write])
        if batch.write.exception() is not None and batch.puts > 1:
            # One row may be at fault: only its put fails when each is written alone.
            await self._write(partition_id, keys, tags, rows)
        else:
            batch.write.result()

    async def _write_open(self, partition_id: str, kind: Hashable) -> None:
        async with self._one_at_a_time:
            batch = self._open.pop(kind)
            await self._put(partition_id, batch.keys, batch.tags, batch.rows)

    async def _write(
        self, partition_id: str, keys: list[str], tags: list[dict[str, Any]], rows: list[dict[str, Any]]
    ) -> None:
        async with self._one_at_a_time:
            await self._put(partition_id, keys, tags, rows)

    async def _put(
        self, partition_id: str, keys: list[str], tags: list[dict[str, Any]], rows: list[dict[str, Any]]
    ) -> None:
        fields = self._to_tensordict(rows) if rows else None
        await self._queue.async_kv_batch_put(keys=keys, partition_id=partition_id, fields=fields, tags=tags)


def _columns(row: dict[str, Any]) -> Hashable:
    """Return what rows must have in common to be one TensorDict; only the length of vectors may differ."""
    return tuple((name, _kind(value)) for name, value in row.items())


def _kind(value: Any) -> Hashable:
    if not isinstance(value, torch.Tensor):
        return None
    return value.dtype, "vector" if value.ndim == 1 else value.shape
