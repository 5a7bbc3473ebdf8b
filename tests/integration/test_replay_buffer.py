"""The replay buffer's options and its deadline."""

from __future__ import annotations

import pytest
from omegaconf.errors import ConfigKeyError
from tensordict import TensorDict
from tensordict.tensorclass import NonTensorStack
from verl.trainer.ppo.v1 import replay_buffer
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer, ReplayBufferAsync

from reinforcepp_verl.config.reward_error_options import RewardErrorOptions
from reinforcepp_verl.guards.watchdog import is_within
from reinforcepp_verl.integration import reward_errors
from reinforcepp_verl.integration.replay_buffer import (
    TRAINING_PACKAGES,
    FailedRolloutError,
    StalledRolloutError,
)
from reinforcepp_verl.integration.trainers import ReinforceppColocateAsync, ReinforceppSeparateAsync, ReinforceppSync


def test_buffer_is_verls_own_for_the_trainer_mode(build_buffer):
    assert isinstance(build_buffer("sync"), ReplayBuffer) and not isinstance(build_buffer("sync"), ReplayBufferAsync)
    assert isinstance(build_buffer("colocate_async"), ReplayBufferAsync)


def test_options_reach_verls_buffer(build_buffer):
    buffer = build_buffer(poll_interval_s=0.5, filter_groups=True, filter_groups_metric="acc", gen_batch_size=4)
    assert buffer.poll_interval == 0.5
    assert buffer.filter_groups_metric == "acc"
    assert buffer.gen_batch_size == 1  # exact refills, as verl sets it with group filtering
    assert build_buffer(filter_groups=False, filter_groups_metric="acc").filter_groups_metric is None


def test_unknown_option_is_refused(build_buffer):
    with pytest.raises(ConfigKeyError, match="pol_interval"):
        build_buffer(pol_interval=1)


def test_no_progress_within_the_deadline_raises_and_progress_resets_it(build_buffer):
    buffer = build_buffer(poll_interval_s=0.01, stall_deadline_s=0.2)
    buffer.running_keys["train"] = {"a", "b"}
    last = 0.0
    for finished in range(30):  # 0.3 s of waiting in total, with progress in between
        buffer.finished_keys["train"].add(str(finished))
        last = buffer._wait_for_next_poll("train", last)
    with pytest.raises(StalledRolloutError, match="stall_deadline_s.*2 running"):
        for _ in range(100):
            last = buffer._wait_for_next_poll("train", last)


def test_the_watchdog_sees_a_wait_for_rollouts(monkeypatch, build_buffer):
    buffer, seen = build_buffer(poll_interval_s=0.0), []
    monkeypatch.setattr(replay_buffer.time, "sleep", lambda _: seen.append(buffer.watchdog._waits_for_rollouts))
    buffer._wait_for_next_poll("train", 0.0)
    assert seen == [True] and not buffer.watchdog._waits_for_rollouts


@pytest.mark.parametrize("trainer", [ReinforceppSync, ReinforceppColocateAsync, ReinforceppSeparateAsync])
def test_the_watchdog_sees_where_the_training_loop_is(trainer):
    """In verl's class with `fit`, whatever its module is called, and in ours."""
    loop = next(cls for cls in trainer.__mro__ if "fit" in vars(cls))
    for module in (loop.__module__, trainer.__module__):
        assert any(is_within(module, package) for package in TRAINING_PACKAGES), module


def test_time_without_waiting_does_not_count(monkeypatch, build_buffer):
    buffer = build_buffer(poll_interval_s=0.0, stall_deadline_s=60)
    clock = iter([0.0, 1.0, 500.0, 501.0])
    monkeypatch.setattr("reinforcepp_verl.integration.replay_buffer.time.monotonic", lambda: next(clock))
    for _ in range(4):  # 499 s of training between the second and the third poll
        buffer._check_progress("train")


@pytest.mark.parametrize(("options", "raises"), [({}, True), ({"max_failed_fraction": 0.5}, False)])
def test_failed_groups_stop_the_run_unless_allowed(options, raises, build_buffer):
    buffer = build_buffer(**options)
    buffer.finished_keys["train"], buffer.failure_keys["train"] = {"a", "b", "c"}, {"d"}
    if raises:
        with pytest.raises(FailedRolloutError, match="1 of 4 prompt groups failed.*max_failed_fraction"):
            buffer._check_failures("train")
    else:
        buffer._check_failures("train")


def test_failed_groups_that_verl_replaces_are_not_an_error(build_buffer):
    buffer = build_buffer(sync_refill_failed_groups=True)
    buffer.failure_keys["train"] = {"d"}
    buffer._check_failures("train")


class Queue:
    """Answers of prompt groups; `broken` ones could not be scored."""

    def __init__(self, broken):
        self.broken = broken

    def kv_batch_get(self, keys, partition_id, select_fields):
        assert select_fields == ["extra_fields"]
        failed = {"acc": 0.0, "reward_error": 1.0, "error": "error: E: boom"}
        fine = {"acc": 1.0, "reward_error": 0.0}
        rows = [{"reward_extra_info": failed if key[0] in self.broken else fine} for key in keys]
        return TensorDict({"extra_fields": NonTensorStack(*rows)}, batch_size=len(keys))

    def kv_clear(self, partition_id, keys):
        pass


def filtering(build_buffer, monkeypatch, broken, trainer_mode="sync"):
    """Build a buffer that filters out groups of two answers, monitored as in our trainer."""
    queue = Queue(broken)
    for module in (replay_buffer, reward_errors):
        monkeypatch.setattr(module, "tq", queue)
    buffer = build_buffer(trainer_mode, filter_groups=True, filter_groups_metric="acc", train_batch_size=2)
    buffer.filtered_error_monitor = reward_errors.RewardErrorMonitor(RewardErrorOptions())
    return buffer


def evict(buffer, uid):
    buffer.partitions["train"] = {f"{uid}_{session}_0": {} for session in range(3)}
    buffer.finished_keys["train"] = {uid}
    reasons = buffer._terminal_eviction_reasons(1, "train")
    assert reasons[1] == {uid}
    buffer._evict_terminal_groups(1, "train", reasons)
    assert not buffer.partitions["train"]


@pytest.mark.parametrize("trainer_mode", ["sync", "colocate_async"])
def test_groups_filtered_out_for_scoring_errors_stop_the_run(monkeypatch, trainer_mode, build_buffer):
    buffer = filtering(build_buffer, monkeypatch, broken="ab", trainer_mode=trainer_mode)
    evict(buffer, "a")
    with pytest.raises(reward_errors.RewardFailureError, match="6 of 6 answers could not be scored.*boom"):
        evict(buffer, "b")


def test_groups_filtered_out_for_equal_answers_do_not(monkeypatch, build_buffer):
    buffer = filtering(build_buffer, monkeypatch, broken="")
    for uid in "abcd":
        evict(buffer, uid)
