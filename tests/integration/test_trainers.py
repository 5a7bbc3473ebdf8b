"""Our trainers are verl's own with a few methods extended; these are the names they rely on."""

from __future__ import annotations

import inspect
import json

import pytest
import torch
from omegaconf import OmegaConf
from verl.trainer.ppo.core_algos import AdaptiveKLController, FixedKLController
from verl.trainer.ppo.v1 import PPOTrainer, get_trainer_cls
from verl.trainer.ppo.v1.trainer_base import TRAINER_REGISTRY

from reinforcepp_verl.algorithm.batch import NonFiniteRewardError
from reinforcepp_verl.algorithm.moments import Memory, Moments
from reinforcepp_verl.algorithm.options import ReinforceppOptions
from reinforcepp_verl.config.reward_error_options import RewardErrorOptions
from reinforcepp_verl.integration import trainers
from reinforcepp_verl.integration.batch_context import PaddingAwareKL
from reinforcepp_verl.integration.replay_buffer import ReinforceppReplayBuffer
from reinforcepp_verl.integration.reward_errors import RewardErrorMonitor
from reinforcepp_verl.integration.row_totals import row_totals

MODES = ["sync", "colocate_async", "separate_async"]


@pytest.mark.parametrize("mode", MODES)
def test_each_of_verls_trainers_has_one_of_ours_that_keeps_its_mode(mode):
    ours = get_trainer_cls(f"reinforcepp_{mode}")
    assert issubclass(ours, TRAINER_REGISTRY[mode])
    made = ours.__new__(ours)
    made.trainer_mode = f"reinforcepp_{mode}"
    assert made.trainer_mode == mode


@pytest.mark.parametrize("mode", MODES)
def test_a_trainers_options_are_found_under_our_name_too(mode):
    from hydra import compose, initialize_config_dir

    from reinforcepp_verl.config import search_path

    search_path.register()
    with initialize_config_dir(config_dir=str(search_path.config_dir()), version_base=None):
        v1 = compose("reinforcepp_trainer").trainer.v1
    assert v1[f"reinforcepp_{mode}"] == v1[mode]


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("_compute_advantage", ["self", "batch", "metrics"]),
        ("_build_replay_buffer", ["self"]),
        ("step", ["self", "metrics", "timing_raw"]),
        ("_compute_metrics", ["self", "batch", "metrics", "timing_raw", "global_steps", "epoch"]),
        ("_validate", ["self"]),
        ("on_train_begin", ["self"]),
        ("on_step_end", ["self"]),
        ("on_validate_begin", ["self"]),
        ("_save_checkpoint", ["self"]),
        ("_load_checkpoint", ["self"]),
        (
            "_val_metrics_update",
            [
                *("self", "data_sources", "sample_uids", "reward_extra_infos_dict", "sample_turns"),
                "expected_acc_counts",
            ],
        ),
    ],
)
def test_verls_methods_that_we_extend_are_still_there(method, parameters):
    assert list(inspect.signature(getattr(PPOTrainer, method)).parameters) == parameters


def test_verl_reads_the_fields_that_we_read_and_sets_loss_mask_once():
    source = inspect.getsource(PPOTrainer._compute_advantage)
    for name in {"uid", *trainers.COLUMNS} - {trainers.SCORE_MASK}:
        assert f'"{name}"' in source
    assert '"loss_mask"' not in source, "verl updates loss_mask itself: ours need not"
    save = inspect.getsource(PPOTrainer._save_checkpoint)
    assert "global_step_{self.global_steps}" in save


class Stub(trainers.ReinforceppTrainer):
    """The mixin alone, with only the attributes of a trainer that its methods use."""

    def __init__(self, folder, **options):
        self.options = ReinforceppOptions(**options)
        self.estimator_is_registered, self.memory, self.global_steps = True, Memory(), 3
        self.config = OmegaConf.create(
            {"trainer": {"default_local_dir": str(folder), "resume_mode": "auto", "resume_from_path": None}}
        )


def test_groups_that_verl_filters_out_are_monitored_separately_under_the_same_limits(tmp_path):
    class Base:
        def _build_replay_buffer(self):
            node = OmegaConf.create({"train_batch_size": 4, "filter_groups": True, "filter_groups_metric": "acc"})
            given = {"trainer_mode": "sync", "trainer_config": {}, "max_off_policy_strategy": "drop"}
            given |= {"max_off_policy_threshold": 8, "refill_fn": print, "sampler_kwargs": node}
            return ReinforceppReplayBuffer(**given)

    made = type("Made", (Stub, Base), {})(tmp_path)
    made.error_monitor = RewardErrorMonitor(RewardErrorOptions(max_rate=0.3))
    monitor = made._build_replay_buffer().filtered_error_monitor
    assert monitor is not made.error_monitor and monitor.options is made.error_monitor.options


def with_kl(stub, kind, coefficient):
    stub.config.algorithm = {"adv_estimator": "reinforcepp", "use_kl_in_reward": True, "kl_ctrl": {"type": kind}}
    controller = FixedKLController if kind == "fixed" else lambda start: AdaptiveKLController(start, 0.1, 100)
    stub.kl_ctrl_in_reward = PaddingAwareKL(controller(coefficient))
    return stub


@pytest.mark.parametrize(("kind", "expected"), [("adaptive", 0.25), ("fixed", 0.5)])
def test_running_state_and_an_adaptive_kl_coefficient_come_back(tmp_path, kind, expected):
    before = with_kl(Stub(tmp_path, statistics="running"), kind, 0.25)
    before.memory = Memory(Moments(3.0, 0.5, 0.25), Moments(), [Moments(2.0, 1.0, 0.1)])
    state = json.loads(json.dumps(before.plugin_state()))
    after = with_kl(Stub(tmp_path, statistics="running"), kind, 0.5)
    after.original_config = after.saved_config = after.config
    after.load_plugin_state(state)
    assert after.memory == before.memory
    assert after.kl_ctrl_in_reward.value == after.kl_ctrl_in_reward.controller.value == expected


def test_an_adaptive_kl_coefficient_changed_since_the_save_takes_the_new_value(tmp_path):
    after = with_kl(Stub(tmp_path), "adaptive", 0.5)
    after.original_config = after.config
    after.saved_config = OmegaConf.create({"algorithm": {"kl_ctrl": {"type": "fixed"}}})
    after.load_plugin_state({"kl_coef": 0.25})
    assert after.kl_ctrl_in_reward.value == 0.5


def test_a_checkpoint_without_state_is_refused_only_if_the_estimator_needs_it(tmp_path):
    with_kl(Stub(tmp_path), "fixed", 0.5).load_plugin_state({})
    with pytest.raises(ValueError, match="adv_estimator is reinforcepp: it keeps state.*resume_mode=disable"):
        with_kl(Stub(tmp_path, reward_norm="running"), "fixed", 0.5).load_plugin_state({})


def test_state_that_is_still_empty_resumes(tmp_path):
    state = with_kl(Stub(tmp_path), "fixed", 0.5).plugin_state()
    resumed = with_kl(Stub(tmp_path, reward_norm="running"), "fixed", 0.5)
    resumed.load_plugin_state(state)
    assert resumed.memory == Memory()


def test_state_is_restored_without_an_option_that_needs_it(tmp_path):
    before, after = (with_kl(Stub(tmp_path), "fixed", 0.5) for _ in range(2))
    before.memory.returns = Moments(3.0, 0.5, 0.25)
    after.load_plugin_state(json.loads(json.dumps(before.plugin_state())))
    assert after.memory == before.memory


class Queue:
    """The keys, and the values put under them."""

    def __init__(self, monkeypatch):
        self.put = {}
        monkeypatch.setattr(trainers.tq, "kv_batch_put", lambda keys, partition_id, fields: self.put.update(fields))
        self.batch = type("Batch", (), {"keys": ["a_0_0", "a_1_0"], "partition_id": "train", "__len__": lambda _: 2})()


def columns(bad_score):
    rows = {
        "response_mask": torch.ones(4, dtype=torch.long),
        "rm_scores": torch.tensor([0.0, 1.0, 0.0, bad_score]),
        "old_log_probs": torch.full((4,), -1.0),
    }
    offsets = torch.tensor([0, 2, 4])
    return {name: torch.nested.nested_tensor_from_jagged(values, offsets) for name, values in rows.items()}


def empty_non_finite_rows(trainer, queue, data):
    totals = row_totals(data)
    trainer._empty_non_finite_rows(queue.batch, data, totals)
    return totals


def test_a_bad_row_is_emptied_in_every_field_before_verl_uses_it(tmp_path, monkeypatch):
    queue, data = Queue(monkeypatch), columns(bad_score=float("nan"))
    totals = empty_non_finite_rows(Stub(tmp_path, nonfinite="drop"), queue, data)
    assert totals.is_non_finite.tolist() == [False, True] and totals.length.tolist() == [2, 0]
    assert data["rm_scores"].values().tolist() == [0.0, 1.0, 0.0, 0.0]
    assert set(queue.put) == {"response_mask", "loss_mask", "rm_scores", "old_log_probs"}
    for values in queue.put.values():
        assert not values.to_padded_tensor(0)[1].any() and values.to_padded_tensor(0)[0].any()


def test_a_bad_row_that_stops_the_run_is_named(tmp_path, monkeypatch):
    queue = Queue(monkeypatch)
    with pytest.raises(NonFiniteRewardError, match="1 of 2 answers .* the first is a_1_0"):
        empty_non_finite_rows(Stub(tmp_path), queue, columns(bad_score=float("nan")))
    assert not queue.put


def test_a_clean_batch_is_unchanged(tmp_path, monkeypatch):
    queue = Queue(monkeypatch)
    assert not empty_non_finite_rows(Stub(tmp_path), queue, columns(bad_score=0.0)).is_non_finite.any()
    assert not queue.put
