"""verl's own training loop and save around our trainer, with workers that write a shard instead of training."""

from __future__ import annotations

import json
import threading

import pytest
import torch
from omegaconf import OmegaConf
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import trainer_base
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync

from reinforcepp_verl.checkpoints import manifest, store
from reinforcepp_verl.common.run_folder import ATTEMPT_VARIABLE, create
from reinforcepp_verl.guards import GuardError
from reinforcepp_verl.integration import optimizer_settings, pending_save
from reinforcepp_verl.integration.checkpointing import CheckpointingTrainer
from reinforcepp_verl.report.run_records import flatten, recorded

VAL = "val-core/task/acc/mean@1"


class Workers:
    """The FSDP workers, whose weights are the number of updates."""

    weights = 0.0

    def __init__(self):
        self.asked = []

    def execute_with_func_generator(self, func):
        self.asked.append(func)

    def save_checkpoint(self, local_path, remote_path, step, max_ckpt_to_keep):
        assert remote_path is max_ckpt_to_keep is None
        folder = store.Path(local_path)
        folder.mkdir(parents=True)
        torch.save({"weight": torch.tensor([self.weights])}, folder / "model_world_size_1_rank_0.pt")

    def load_checkpoint(self, local_path, del_local_after_load):
        state = torch.load(f"{local_path}/model_world_size_1_rank_0.pt", weights_only=True)
        self.weights = state["weight"].item()


class Loader:
    """The data, whose position is the number of batches."""

    position = 0

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]


class Rollouts:
    """verl's checkpoint manager for the rollout engines, and its executor for dumps."""

    def update_weights(self, step):
        pass

    def shutdown(self, wait):
        pass


class Quick:
    """What verl's constructor creates on a machine with Ray."""

    def __init__(self, config):
        self.config, self.trainer_mode, self.use_critic = config, "sync", False
        self.checkpoint_callback = Callback()
        self.actor_rollout_wg, self.train_dataloader = Workers(), Loader()
        self.checkpoint_manager = self._dump_executor = Rollouts()
        self._dump_futures = []
        self.steps_per_epoch, self.total_training_steps = 1000, config.trainer.total_training_steps
        self._rollout_moe_lb_metrics_accumulator = []

    def step(self, metrics, timing_raw):
        self.train_dataloader.position += 1
        self.actor_rollout_wg.weights += 1
        metrics["weights"] = self.actor_rollout_wg.weights
        self.during_step(self.global_steps)
        return KVBatchMeta(partition_id="train", keys=[], tags=[])

    def _compute_metrics(self, batch, metrics, timing_raw, global_steps, epoch):
        self._rollout_moe_lb_metrics_accumulator.append(global_steps)
        metrics |= {"training/global_step": global_steps, "training/epoch": epoch}

    def _validate(self):
        self.during_validation(self.global_steps)
        return {VAL: self.actor_rollout_wg.weights / 10}


class Callback:
    """A user's checkpoint callback."""

    def __init__(self):
        self.saved_steps = []

    def on_save(self, trainer, global_step, checkpoint_dir, async_save):
        assert (store.Path(checkpoint_dir) / "COMPLETE").is_file()
        self.saved_steps.append(global_step)


class Loop(CheckpointingTrainer, Quick, PPOTrainerSync):
    state = None

    def during_step(self, step):
        pass

    during_validation = during_step

    def plugin_state(self):
        return {"weights": self.actor_rollout_wg.weights}

    def load_plugin_state(self, state):
        self.state = state


@pytest.fixture
def run(compose, tmp_path, monkeypatch):
    """Return a run folder and a function that creates its next attempt: a trainer that is ready to fit."""
    monkeypatch.setattr(trainer_base.tq, "kv_clear", lambda **_: None)
    rows = tmp_path / "train.parquet"
    rows.write_bytes(b"rows")
    folder = create(tmp_path / "runs", "run")

    def attempt(loop=Loop, start=None, **trainer):
        trainer = {"total_training_steps": 6, "save_freq": 2, "test_freq": 3, "val_before_train": False} | trainer
        trainer.setdefault("max_actor_ckpt_to_keep", "null")
        made = folder.new_attempt()
        overrides = ["+recipe=math_rlvr/arithmetic", f"data.train_files={rows}", "trainer.logger=[file]"]
        overrides += [f"trainer.{key}={value}" for key, value in trainer.items()]
        overrides += [f"trainer.default_local_dir={folder.checkpoints}"]
        if start is not None:
            overrides += ["trainer.resume_mode=resume_path", f"trainer.resume_from_path={start}"]
        else:
            overrides += ["trainer.resume_mode=disable"]
        config = compose(*overrides)
        trainer_base.OmegaConf.save(config, made.config, resolve=True)
        monkeypatch.setenv(ATTEMPT_VARIABLE, str(made.path))
        monkeypatch.setenv("VERL_FILE_LOGGER_PATH", str(made.tracker))
        ready = loop(config)
        ready._load_checkpoint()
        return ready

    return folder, attempt


def fit(trainer):
    trainer.fit(None)
    trainer.logger.finish()


def steps_of(folder):
    return {step: record.get("weights") for step, record in recorded(folder).items()}


def test_every_save_is_complete_and_names_its_run_and_step(run):
    folder, attempt = run
    trainer = attempt()
    fit(trainer)
    assert store.checkpoint_steps(folder.checkpoints) == [6, 4, 2]
    assert sorted(trainer.checkpoint_callback.saved_steps) == [2, 4, 6]
    found, ignored = store.newest_checkpoint(folder.checkpoints)
    assert ignored == [] and (found.manifest.step, found.manifest.world_size, found.manifest.seed) == (6, 1, 1)
    assert list(found.manifest.data) == [str(folder.path.parents[1] / "train.parquet")]
    assert {"actor/model_world_size_1_rank_0.pt", "data.pt", "config.yaml", "reinforcepp_state.json"} <= set(
        found.manifest.files
    )
    assert json.loads((found.path / store.STATE_FILE).read_text()) == {"weights": 6.0, "is_last_step": True}


@pytest.fixture
def slow_disk(monkeypatch):
    """Return an event: until it is set, no save is verified, and the training does not wait for it."""
    monkeypatch.setattr(pending_save, "LEAST_PATIENCE_S", 0.0)
    written, describe = threading.Event(), manifest.describe

    def described(files, folder):
        assert threading.current_thread() is threading.main_thread() or written.wait(20)
        return describe(files, folder)

    monkeypatch.setattr(manifest, "describe", described)
    yield written
    written.set()


def test_the_training_continues_while_a_save_is_verified(run, slow_disk):
    folder, attempt = run

    class OnASlowDisk(Loop):
        seen = {}

        def during_step(self, step):
            self.seen[step] = store.checkpoint_steps(folder.checkpoints)
            if step == 4:
                slow_disk.set()

    trainer = attempt(OnASlowDisk)
    fit(trainer)
    # The save of step 2 is written while step 3 trains, and is a checkpoint before that of step 4 begins.
    assert trainer.seen[3] == [] and trainer.seen[5][-1] == 2
    assert trainer.checkpoint_callback.saved_steps == [2, 4, 6]
    for step in (2, 4, 6):
        saved = manifest.read(folder.checkpoints / f"global_step_{step}")
        manifest.verify(folder.checkpoints / f"global_step_{step}", saved)
        assert saved.step == step
    shard = folder.checkpoints / "global_step_2/actor/model_world_size_1_rank_0.pt"
    assert torch.load(shard, weights_only=True) == {"weight": torch.tensor([2.0])}


@pytest.mark.parametrize("ends", ["stop", "guard", "last"])
def test_a_save_that_is_still_verified_is_kept_when_the_run_ends(run, slow_disk, ends):
    folder, attempt = run

    class Ending(Loop):
        def during_step(self, step):
            if step == 3:
                threading.Timer(0.5, slow_disk.set).start()
                if ends == "stop":
                    self.attempt.run.stop.touch()

        def raise_if_tripped(self):
            if ends == "guard" and self.global_steps == 3:
                raise GuardError("enough")

    trainer = attempt(Ending, total_training_steps=3 if ends == "last" else 6)
    if ends == "guard":
        with pytest.raises(GuardError):
            trainer.fit(None)
    else:
        fit(trainer)
    assert store.checkpoint_steps(folder.checkpoints)[-1] == 2
    assert ends == "guard" or store.checkpoint_steps(folder.checkpoints)[0] == 3
    assert store.newest_checkpoint(folder.checkpoints)[1] == []


def test_verls_key_limits_the_number_of_checkpoints_kept(run):
    folder, attempt = run
    fit(attempt(max_actor_ckpt_to_keep=2))
    assert store.checkpoint_steps(folder.checkpoints) == [6, 4]


def test_a_save_before_a_validation_does_not_count_a_step_twice_in_verls_sums(run):
    _, attempt = run
    trainer = attempt(save_freq=3)
    fit(trainer)
    assert trainer._rollout_moe_lb_metrics_accumulator == [1, 2, 3, 4, 5, 6]


def test_a_new_process_resumes_from_the_checkpoint(run):
    folder, attempt = run
    fit(attempt(total_training_steps=4))
    trainer = attempt(start=folder.checkpoints / "global_step_4")
    assert (trainer.global_steps, trainer.actor_rollout_wg.weights, trainer.train_dataloader.position) == (4, 4.0, 4)
    assert trainer.state == {"weights": 4.0, "is_last_step": True}
    fit(trainer)
    assert steps_of(folder) == {step: float(step) for step in range(1, 7)}


class Stopping(Loop):
    """A stop is requested during a step."""

    def during_step(self, step):
        if step == 3:
            self.attempt.run.stop.touch()


def test_a_stop_finishes_the_step_saves_and_leaves_the_validation_to_the_next_attempt(run):
    folder, attempt = run
    trainer = attempt(Stopping)
    fit(trainer)
    assert steps_of(folder) == {1: 1.0, 2: 2.0, 3: 3.0}
    assert VAL not in recorded(folder)[3]
    assert store.checkpoint_steps(folder.checkpoints) == [3, 2] and trainer.attempt.stopped.exists()
    folder.stop.unlink()
    again = attempt(start=folder.checkpoints / "global_step_3", val_before_train=True)
    fit(again)
    records = recorded(folder)
    assert steps_of(folder) == {step: float(step) for step in range(1, 7)}
    assert (records[3][VAL], records[6][VAL]) == (0.3, 0.6) and not again.attempt.stopped.exists()


class StoppingInValidation(Loop):
    def during_validation(self, step):
        if step == 2:
            self.attempt.run.stop.touch()


def test_a_stop_during_the_validation_of_a_saved_step_ends_with_that_step(run):
    folder, attempt = run
    trainer = attempt(StoppingInValidation, test_freq=2)
    fit(trainer)
    assert recorded(folder)[2][VAL] == 0.2 and max(steps_of(folder)) == 2
    assert store.checkpoint_steps(folder.checkpoints) == [2] and trainer.attempt.stopped.exists()


class StoppedAndTripped(Stopping):
    def raise_if_tripped(self):
        if self.global_steps == 3:
            raise GuardError("enough")


def test_a_guard_error_in_the_step_that_stops_is_not_lost(run):
    _, attempt = run
    trainer = attempt(StoppedAndTripped)
    with pytest.raises(GuardError):
        trainer.fit(None)
    assert not trainer.attempt.stopped.exists()


class Overtaken(Loop):
    def during_step(self, step):
        if step == 2:
            self.attempt.run.new_attempt()


def test_a_trainer_that_outlived_its_attempt_saves_nothing(run):
    folder, attempt = run
    with pytest.raises(RuntimeError, match="attempt_2 continues the run"):
        attempt(Overtaken).fit(None)
    assert store.checkpoint_steps(folder.checkpoints) == []


class OnAFullDisk(Loop):
    def during_step(self, step):
        if step == 2:
            with self.attempt.tracker.open("ab") as tracker:
                tracker.write(b'{"step": 2, "da')
            self.logger._tracking.log = lambda data, step: None


def test_a_record_truncated_by_a_full_disk_ends_the_run(run):
    folder, attempt = run
    with pytest.raises(OSError, match="No space left"):
        attempt(OnAFullDisk).fit(None)
    assert store.checkpoint_steps(folder.checkpoints) == []


def test_a_stop_before_the_first_step_trains_none(run):
    folder, attempt = run
    trainer = attempt()
    folder.stop.touch()
    fit(trainer)
    assert steps_of(folder) == {} and trainer.attempt.stopped.exists()


def test_the_last_step_finishes_the_run_despite_a_stop(run):
    folder, attempt = run
    trainer = attempt(Stopping, total_training_steps=3)
    fit(trainer)
    assert recorded(folder)[3][VAL] == 0.3 and store.checkpoint_steps(folder.checkpoints) == [3, 2]
    assert not trainer.attempt.stopped.exists()


class Killed(KeyboardInterrupt):
    """Ends the process here as SIGKILL would: no code of the trainer runs after it."""


class KilledInValidation(Loop):
    def during_validation(self, step):
        if step == 6:
            raise Killed


def test_a_kill_in_the_validation_keeps_the_step_and_its_metrics(run):
    folder, attempt = run
    with pytest.raises(Killed):
        attempt(KilledInValidation).fit(None)
    assert 6 not in recorded(folder)
    found, _ = store.newest_checkpoint(folder.checkpoints)
    assert found.manifest.step == 6
    record = flatten((found.path / store.METRICS_FILE).read_bytes())
    assert (record["step"], record["weights"], record["training/global_step"]) == (6, 6.0, 6)


class KilledBeforeTheRecord(Loop):
    def _compute_metrics(self, *args, **kwargs):
        super()._compute_metrics(*args, **kwargs)
        if self.global_steps == 4:
            raise Killed


def test_a_kill_between_the_save_and_the_record_of_its_step_discards_the_save(run):
    folder, attempt = run
    with pytest.raises(Killed):
        attempt(KilledBeforeTheRecord).fit(None)
    assert (folder.checkpoints / store.SAVING_FOLDER / "attempt_1" / "global_step_4").is_dir()
    assert store.newest_checkpoint(folder.checkpoints)[0].manifest.step == 2 and steps_of(folder).keys() == {1, 2, 3}


class WithCritic(Loop):
    def __init__(self, config):
        super().__init__(config)
        self.use_critic, self.critic_wg = True, Workers()


def test_a_critic_is_saved_and_checked_like_the_policy(run):
    folder, attempt = run
    trainer = attempt(WithCritic, total_training_steps=4)
    trainer.critic_wg.weights = float("nan")
    with pytest.raises(GuardError, match="weight in model_world_size_1_rank_0.pt has NaN"):
        trainer.fit(None)
    assert store.checkpoint_steps(folder.checkpoints) == []


def test_workers_receive_settings_only_if_they_differ_from_the_checkpoints(run):
    folder, attempt = run
    fit(attempt(WithCritic, total_training_steps=2))
    start = folder.checkpoints / "global_step_2"
    same = attempt(WithCritic, start=start)
    assert same.actor_rollout_wg.asked == same.critic_wg.asked == []
    config = OmegaConf.load(start / store.CONFIG_FILE)
    config.actor_rollout_ref.actor.optim.lr /= 2
    OmegaConf.save(config, start / store.CONFIG_FILE)
    changed = attempt(WithCritic, start=start)
    assert changed.actor_rollout_wg.asked == [optimizer_settings.keep_settings, optimizer_settings.restore_settings]
    assert changed.critic_wg.asked == []
    (start / store.CONFIG_FILE).unlink()
    of_another_trainer = attempt(WithCritic, start=start)
    assert len(of_another_trainer.actor_rollout_wg.asked) == len(of_another_trainer.critic_wg.asked) == 2


class Broken(Loop):
    def during_step(self, step):
        if step == 4:
            self.actor_rollout_wg.weights = float("nan")


def test_weights_that_are_not_finite_are_never_kept(run):
    folder, attempt = run
    with pytest.raises(GuardError, match="weight in model_world_size_1_rank_0.pt"):
        attempt(Broken).fit(None)
    assert store.checkpoint_steps(folder.checkpoints) == [2]


def test_missing_shards_on_another_node_are_reported_at_the_first_save(run):
    _, attempt = run
    with pytest.raises(FileNotFoundError, match="1 of 2 shards: checkpoints must be on a file system shared by all"):
        attempt(n_gpus_per_node=2).fit(None)
