"""Keeps changed optimizer settings on a resume: verl's checkpoint would restore the old ones, so that a changed
learning rate would have no effect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from verl import DataProto
from verl.workers.engine_workers import ActorRolloutRefWorker


@contextmanager
def kept_from_config(groups: Sequence[Any]) -> Iterator[None]:
    """Context in which these worker groups load a checkpoint but keep the settings of their configuration.

    Moments and schedule position come from the checkpoint; learning rate, weight decay and betas do not.
    """
    for group in groups:
        group.execute_with_func_generator(keep_settings)
    yield
    for group in groups:
        group.execute_with_func_generator(restore_settings)


def keep_settings(worker: Any) -> DataProto:
    """Remember the configured settings of optimizer and schedule; runs on a worker."""
    engine = _engine(worker)
    settings = [{name: value for name, value in group.items() if name != "params"} for group in _groups(engine)]
    worker.reinforcepp_settings = settings, list(engine.lr_scheduler.base_lrs)
    return _nothing()


def restore_settings(worker: Any) -> DataProto:
    """Restore these settings and compute the learning rate of this step; runs on a worker."""
    engine = _engine(worker)
    settings, base_lrs = worker.reinforcepp_settings
    schedule = engine.lr_scheduler
    schedule.base_lrs = base_lrs
    rates = [base * factor(schedule.last_epoch) for base, factor in zip(base_lrs, schedule.lr_lambdas, strict=True)]
    for group, kept, rate in zip(_groups(engine), settings, rates, strict=True):
        group.update(kept)
        group["lr"] = rate
    schedule._last_lr = rates
    return _nothing()


def _engine(worker: Any) -> Any:
    trained: Any = worker.actor if isinstance(worker, ActorRolloutRefWorker) else worker
    return trained.engine


def _groups(engine: Any) -> list[dict[str, Any]]:
    return engine.optimizer.param_groups


def _nothing() -> DataProto:
    """Return the result that verl requires of a function run on workers."""
    return DataProto.from_single_dict({"done": torch.ones(1)})
