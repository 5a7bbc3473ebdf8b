"""Adds atomic checkpoints and stopping on request to verl's trainers.

A checkpoint is written to a staging folder and renamed once all of it is on disk and the step's metrics are recorded,
so that a resumed run has the metrics of every step before it. It is verified while the training continues.
"""

from __future__ import annotations

import copy
import errno
import json
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import orjson
from omegaconf import DictConfig, OmegaConf
from verl.trainer.ppo.checkpoint_callback import CheckpointCallback
from verl.utils.checkpoint.checkpoint_manager import find_latest_ckpt_path

from reinforcepp_verl.checkpoints import compatibility, store
from reinforcepp_verl.checkpoints.manifest import Manifest
from reinforcepp_verl.common import durable
from reinforcepp_verl.common.run_folder import Attempt
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import FSDP_ENGINE, value, world_size
from reinforcepp_verl.guards import GuardError
from reinforcepp_verl.integration import optimizer_settings
from reinforcepp_verl.integration.cpu import forked_python
from reinforcepp_verl.integration.pending_save import PendingSave

if TYPE_CHECKING:
    from transfer_queue import KVBatchMeta
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer as Base
    from verl.utils.tracking import Tracking
else:
    Base = object

# A child of verl's logger: vLLM silences the root logger.
logger = logging.getLogger(f"verl.{__name__}")

WITHOUT_ATTEMPT = "attempt_0"
"""Name of the staging folder under verl's own command."""
STEP_METRIC, VERL_INTERNAL = "training/global_step", "_dapo_filtered_reward_counts"


class CheckpointingTrainer(Base):
    """Mixed into verl's trainers: staged saves, a manifest, pruning based on the disk, and the STOP file."""

    saved_config: DictConfig | None = None
    """Configuration of the checkpoint that the run starts from; None if another trainer saved it."""

    def __init__(self, config: DictConfig) -> None:
        self.original_config = _without_fork_server(config)
        self._data = compatibility.data_digests(config)
        self.attempt = Attempt.of_this_process()
        self.keep = config.trainer.max_actor_ckpt_to_keep
        # verl keeps its list of saves in memory only, and may delete one before the next save is complete.
        config.trainer.max_actor_ckpt_to_keep = config.trainer.max_critic_ckpt_to_keep = None
        self._staged: PendingSave | None = None
        self._committed_step: int | None = None
        self._stopping = False
        super().__init__(config)

    # verl creates its logger inside fit(); a step is complete once its metrics are logged.
    @property  # type: ignore[override]
    def logger(self) -> TrackingProxy:
        """verl's Tracking, which notifies this trainer of each record."""
        return self._tracking_proxy

    @logger.setter
    def logger(self, tracking: Tracking) -> None:
        self._tracking_proxy = TrackingProxy(tracking, self)

    def step(self, metrics: dict, timing_raw: dict) -> KVBatchMeta:
        batch = super().step(metrics, timing_raw)
        self._batch, self._metrics = batch, metrics
        return batch

    def on_train_begin(self) -> None:
        if self.attempt is not None:
            self.attempt.training.touch()
        if self._stop_requested():
            self._end_loop()
        else:
            super().on_train_begin()

    def on_step_end(self) -> None:
        # After the last step the run is finished, not stopped.
        self._stopping = self._stop_requested() and self.global_steps < self.total_training_steps
        if self._stopping and (self._staged is None or self._staged.step < self.global_steps):
            self._save_checkpoint()
        super().on_step_end()

    def on_validate_begin(self) -> None:
        if self._staged is not None:
            # A validation can take long, and the save should not wait for it.
            if self._staged.step == self.global_steps:
                self._record_before_validation(self._staged.folder)
            self._commit(wait=False)
        super().on_validate_begin()

    def _validate(self) -> dict[str, float]:
        # Left to the next attempt: a run that was requested to stop may have only seconds.
        return {} if self._stopping else super()._validate()

    def on_logged(self) -> None:
        """Complete the step whose metrics are logged."""
        stopping = self._stopping or self._stop_requested()
        self._commit(wait=stopping or self.global_steps >= self.total_training_steps)
        try:
            self.raise_if_tripped()
        except GuardError:
            self._commit(wait=True)
            raise
        # If the stop was requested in the validation of a step that is already saved, no further step is needed.
        saved = self._committed_step == self.global_steps < self.total_training_steps
        if self._stopping or (saved and stopping):
            self._end_loop()

    def extra_metrics(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """Return additional metrics of a complete step."""
        return {}

    def raise_if_tripped(self) -> None:
        """Raise if a guard has tripped in the step that was just logged."""

    def plugin_state(self) -> dict[str, Any]:
        """Return additional state for the checkpoint, as JSON-compatible values."""
        return {}

    def load_plugin_state(self, state: dict[str, Any]) -> None:
        """Restore the state returned by `plugin_state`."""

    def _save_checkpoint(self) -> None:
        self._commit(wait=True)
        self._refuse_if_overtaken()
        attempt = self.attempt.path.name if self.attempt is not None else WITHOUT_ATTEMPT
        staging = store.begin_save(self._checkpoints, attempt)
        trainer, callback = self.config.trainer, self.checkpoint_callback
        given, trainer.default_local_dir = trainer.default_local_dir, str(staging)
        self.checkpoint_callback = CheckpointCallback()
        started = time.monotonic()
        try:
            super()._save_checkpoint()
        finally:
            trainer.default_local_dir, self.checkpoint_callback = given, callback
        seconds = time.monotonic() - started
        folder = staging / store.folder_name(self.global_steps)
        state = self.plugin_state() | {store.IS_LAST_STEP: self.global_steps >= self.total_training_steps}
        durable.write(folder / store.STATE_FILE, json.dumps(state).encode())
        durable.write(folder / store.CONFIG_FILE, OmegaConf.to_yaml(self.original_config, resolve=True).encode())
        roles = ("actor", "critic") if self.use_critic else ("actor",)
        models = roles if self.config.model_engine == FSDP_ENGINE else ()
        self._staged = PendingSave(folder, self.global_steps, models, world_size(self.config), seconds)

    def _load_checkpoint(self) -> None:
        source = self._source()
        if source is None:
            super()._load_checkpoint()
            return
        if (source / store.CONFIG_FILE).is_file():
            self.saved_config = cast(DictConfig, OmegaConf.load(source / store.CONFIG_FILE))
        with optimizer_settings.kept_from_config(self._workers_with_other_settings()):
            super()._load_checkpoint()
        state = source / store.STATE_FILE
        self.load_plugin_state(json.loads(state.read_text(encoding="utf-8")) if state.is_file() else {})

    def _source(self) -> Path | None:
        """Return the checkpoint that verl is about to load."""
        trainer = self.config.trainer
        if trainer.resume_mode == "resume_path":
            return Path(trainer.resume_from_path)
        newest = find_latest_ckpt_path(str(self._checkpoints)) if trainer.resume_mode == "auto" else None
        return Path(newest) if newest is not None else None

    def changed_since_save(self, key: str) -> bool:
        """Return True unless a key, with its children, is known to be the same as when the checkpoint was saved."""
        if self.saved_config is None:
            return True
        return OmegaConf.select(self.saved_config, key) != OmegaConf.select(self.original_config, key)

    def _workers_with_other_settings(self) -> list[Any]:
        """Return the worker groups whose optimizer settings differ from those in the checkpoint."""
        groups = [self.actor_rollout_wg] if self.changed_since_save(keys.ACTOR_OPTIM) else []
        groups += [self.critic_wg] if self.use_critic and self.changed_since_save(keys.CRITIC_OPTIM) else []
        if groups and self.config.model_engine != FSDP_ENGINE:
            logger.warning("optim was changed, but with %s the saved settings are kept", self.config.model_engine)
            return []
        return groups

    @property
    def _checkpoints(self) -> Path:
        return Path(self.config.trainer.default_local_dir).absolute()

    def _commit(self, *, wait: bool) -> None:
        """Make the pending save a checkpoint, if there is one and it is verified."""
        started, pending = time.monotonic(), self._staged
        if pending is None:
            return
        if not pending.verified(wait_for_it=wait):
            logger.info("the save of step %d is still being verified; the training continues", pending.step)
            return
        self._staged = None
        if self.attempt is not None and self.attempt.tracker.exists():
            durable.sync(self.attempt.tracker)
        described = self._manifest(pending)
        self._refuse_if_overtaken()
        final = store.commit_save(pending.folder, self._checkpoints, described)
        self._committed_step = pending.step
        gone = store.prune(self._checkpoints, self.keep, pending.step)
        logger.info(
            "saved %s, waited %.0f s for its verification%s",
            *(final, time.monotonic() - started),
            f", deleted {', '.join(path.name for path in gone)}" if gone else "",
        )
        self.checkpoint_callback.on_save(
            trainer=self, global_step=pending.step, checkpoint_dir=str(final), async_save=False
        )

    def _refuse_if_overtaken(self) -> None:
        """A trainer may outlive the command that started it; then the run belongs to a newer attempt."""
        if self.attempt is not None and (newest := self.attempt.run.attempts()[-1]).number > self.attempt.number:
            raise RuntimeError(f"{newest.path} continues the run, so this attempt ends without saving")

    def _manifest(self, pending: PendingSave) -> Manifest:
        return Manifest(
            step=pending.step,
            world_size=world_size(self.config),
            seed=OmegaConf.select(self.original_config, keys.SEED),
            data=self._data,
            versions=compatibility.versions(),
            files=pending.files(),
        )

    def _record_before_validation(self, folder: Path) -> None:
        """Store the metrics of the current step in its checkpoint: verl records them only after the validation."""
        record = dict(self._metrics)
        epoch = (self.global_steps - 1) // self.steps_per_epoch
        # verl accumulates how often each expert of a MoE was chosen, and would count this step twice.
        counted = self._rollout_moe_lb_metrics_accumulator
        self._rollout_moe_lb_metrics_accumulator = copy.deepcopy(counted)
        self._compute_metrics(self._batch, record, dict(self.timing_raw), global_steps=self.global_steps, epoch=epoch)
        self._rollout_moe_lb_metrics_accumulator = counted
        record.pop(VERL_INTERNAL, None)
        record.update(self.extra_metrics(record))
        content = {"step": self.global_steps, "data": record}
        durable.write(folder / store.METRICS_FILE, orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY))

    def _stop_requested(self) -> bool:
        return self.attempt is not None and self.attempt.stop_requested()

    def _end_loop(self) -> None:
        """Make verl's loop end normally: it continues until the step exceeds this number."""
        assert self.attempt is not None
        self.attempt.stopped.touch()
        self.total_training_steps = 0


def _refuse_cut_off_line(tracker: Path) -> None:
    """Refuse a truncated last line: verl does not check whether a full disk cut it off."""
    with tracker.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        if stream.read() != b"\n":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tracker))


class TrackingProxy:
    """verl's Tracking; it notifies the trainer of each record after all loggers have it."""

    def __init__(self, tracking: Tracking, trainer: CheckpointingTrainer) -> None:
        self._tracking, self._trainer = tracking, trainer

    def log(self, data: dict[str, Any], step: int) -> None:
        """Record the metrics of a step, or of a validation alone."""
        if STEP_METRIC in data:
            data = {**data, **self._trainer.extra_metrics(data)}
        self._tracking.log(data=data, step=step)
        if (attempt := self._trainer.attempt) is not None and attempt.tracker.is_file():
            _refuse_cut_off_line(attempt.tracker)
        self._trainer.on_logged()

    def finish(self, exit_code: int = 0) -> None:
        """Close the loggers."""
        self._tracking.finish(exit_code=exit_code)


def _without_fork_server(config: DictConfig) -> DictConfig:
    """Copy the configuration without the program that starts this run's processes, which exists only during the run."""
    config = copy.deepcopy(config)
    program = os.environ.get(forked_python.VARIABLE)
    if program and value(config, keys.PY_EXECUTABLE) == program:
        OmegaConf.update(config, keys.PY_EXECUTABLE, None)
    return config
