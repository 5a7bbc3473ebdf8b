"""What we rely on in verl 0.9.1. When verl changes, the tests in this file name the difference."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math

import pytest
import transfer_queue
import verl
from ray.core.generated import common_pb2
from transfer_queue.storage.bootstrap import simple_storage_bootstrap
from verl.experimental.agent_loop import agent_loop
from verl.experimental.reward_loop import reward_loop
from verl.plugin.platform import platform_manager
from verl.plugin.platform.platform_base import PlatformBase
from verl.single_controller.ray import base as ray_base
from verl.trainer import main_ppo
from verl.trainer.ppo import core_algos, metric_utils, ray_trainer
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer, ReplayBufferAsync
from verl.trainer.ppo.v1.trainer_base import PPOTrainer
from verl.trainer.ppo.v1.trainer_separate_async import PPOTrainerSeparateAsync
from verl.utils import distributed
from verl.utils.config import omega_conf_to_dataclass, validate_config
from verl.utils.debug.metrics import calculate_debug_metrics
from verl.utils.metric import reduce_metrics
from verl.utils.tracking import FileLogger
from verl.workers import engine_workers
from verl.workers.config import ActorConfig
from verl.workers.engine.fsdp import transformer_impl
from verl.workers.rollout.vllm_rollout import bucketed_weight_transfer, vllm_async_server
from verl.workers.utils import losses
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.worker.worker_base import WorkerBase

PLATFORM_METHODS = {
    "communication_backend_name",
    "cudart",
    "current_device",
    "device_count",
    "device_module",
    "device_name",
    "empty_cache",
    "get_device_capability",
    "is_available",
    "is_ipc_supported",
    "manual_seed",
    "manual_seed_all",
    "nvtx_range",
    "profiler_start",
    "profiler_stop",
    "ray_noset_envvars",
    "ray_resource_name",
    "set_allocator_settings",
    "set_device",
    "synchronize",
    "vendor_name",
    "visible_devices_envvar",
}
SIGNATURES = {
    core_algos.register_adv_est: ["name_or_enum"],
    core_algos.register_policy_loss: ["name"],
    core_algos.agg_loss: [
        "loss_mat",
        "loss_mask",
        "loss_agg_mode",
        "dp_size",
        "batch_num_tokens",
        "global_batch_size",
        "loss_scale_factor",
    ],
    ReplayBuffer.__init__: [
        "self",
        "trainer_mode",
        "trainer_config",
        "max_off_policy_threshold",
        "max_off_policy_strategy",
        "sampler_kwargs",
        "poll_interval",
        "refill_fn",
        "filter_groups_metric",
        "train_batch_size",
        "gen_batch_size",
        "max_inflight_gen_batches",
        "sync_refill_failed_groups",
    ],
    ReplayBuffer._evict_terminal_groups: ["self", "global_steps", "partition_id", "eviction_reasons"],
    ReplayBuffer._wait_for_next_poll: ["self", "partition_id", "last_debug_time"],
    bucketed_weight_transfer.BucketedWeightReceiver.receive_weights: ["self", "on_bucket_received"],
    omega_conf_to_dataclass: ["config", "dataclass_type"],
    validate_config: ["config", "use_reference_policy", "use_critic"],
    need_critic: ["config"],
    need_reference_policy: ["config"],
    main_ppo.run_ppo: ["config", "task_runner_class"],
}


def test_version():
    assert verl.__version__ == "0.9.1"


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda function: function.__qualname__)
def test_parameters(function):
    # `inspect` looks through functools.wraps, and so through our CPU patches.
    assert list(inspect.signature(function).parameters) == SIGNATURES[function]


def test_process_group_takes_a_backend():
    parameters = inspect.signature(distributed.initialize_global_process_group_ray).parameters
    assert list(parameters) == ["timeout_second", "backend"]


def test_registries_are_plain_dicts():
    assert isinstance(core_algos.ADV_ESTIMATOR_REGISTRY, dict)
    assert isinstance(core_algos.POLICY_LOSS_REGISTRY, dict)


def test_estimators_are_called_by_these_keywords():
    source = inspect.getsource(ray_trainer.compute_advantage)
    for argument in ("token_level_rewards", "response_mask", "config", "index"):
        assert f'"{argument}"' in source


def test_the_loss_is_called_by_these_keywords_and_adds_the_kl_itself():
    source = inspect.getsource(losses.ppo_loss)
    for argument in (
        "old_log_prob",
        "log_prob",
        "advantages",
        "response_mask",
        "loss_agg_mode",
        "config",
        "rollout_is_weights",
    ):
        assert f"{argument}=" in source
    assert "use_kl_loss" in source


def test_actor_config_has_the_fields_that_our_loss_reads():
    fields = {field.name for field in dataclasses.fields(ActorConfig)}
    assert fields >= {"clip_ratio", "clip_ratio_low", "clip_ratio_high", "clip_ratio_c", "global_batch_info"}
    assert ActorConfig.clip_ratio_low == ActorConfig.clip_ratio_high == 0.2  # why our base YAML sets both to null


def test_a_platform_must_implement_exactly_these():
    assert PlatformBase.__abstractmethods__ == PLATFORM_METHODS
    assert list(inspect.signature(platform_manager.PlatformRegistry.register).parameters) == ["platform"]


def test_the_replay_buffer_keeps_the_sets_that_our_deadline_watches():
    source = inspect.getsource(ReplayBuffer.__init__)
    for name in ("partitions", "pending_keys", "running_keys", "finished_keys", "failure_keys"):
        assert f"self.{name}: dict[str" in source
    for buffer in (ReplayBuffer, ReplayBufferAsync):
        assert "_wait_for_next_poll(partition_id" in inspect.getsource(buffer)


def test_the_replay_buffer_gives_the_groups_it_filters_out_as_the_second_of_its_reasons():
    for buffer in (ReplayBuffer, ReplayBufferAsync):
        source = inspect.getsource(buffer._terminal_eviction_reasons)
        assert "dapo_uids, dapo_counts = self._dapo_filtered_keys(partition_id)" in source
    unpacked = "stale_uids, dapo_uids, failed_uids, dapo_counts = eviction_reasons"
    source = inspect.getsource(ReplayBuffer._evict_terminal_groups)
    assert unpacked in source and "self._clear_groups(partition_id, evicted_uids)" in source
    assert "_evict_terminal_groups" not in vars(ReplayBufferAsync)


def test_separate_training_without_engines_on_its_gpus_still_ends_at_a_logger():
    # The reason why preflight/engines.py refuses hybrid_engine=false.
    source = inspect.getsource(PPOTrainerSeparateAsync._setup)
    assert "logger.info(" in source.partition("HybridEngineMode.TRAINER")[2]
    assert "flush=True" in source.partition("HybridEngineMode.TRAINER")[2]


def test_names_that_the_cpu_patches_replace():
    assert callable(transformer_impl.CPUOffloadPolicy)
    assert "CPUOffloadPolicy(pin_memory=True)" in inspect.getsource(transformer_impl)
    assert callable(distributed.initialize_global_process_group_ray)


def test_main_can_be_called_without_hydra():
    assert list(inspect.signature(main_ppo.main.__wrapped__).parameters) == ["config"]


def test_the_file_logger_writes_to_our_path(tmp_path, monkeypatch):
    monkeypatch.setenv("VERL_FILE_LOGGER_PATH", str(tmp_path / "metrics.jsonl"))
    logger = FileLogger("project", "experiment")
    logger.log({"critic/score/mean": 0.5}, step=3)
    logger.finish()
    [line] = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line) == {"step": 3, "data": {"critic/score/mean": 0.5}}


def test_the_watchdog_finds_every_process_by_verls_name():
    named = {
        reward_loop.RewardLoopManager._init_reward_loop_workers: 'name=f"reward_loop_worker_{i}"',
        agent_loop.AgentLoopManager._init_agent_loop_workers: 'name=f"agent_loop_worker_{i}"',
        ray_base.RayWorkerGroup._create_worker: 'f"{self.name_prefix}{cia_name}_{pg_idx}:{local_rank}"',
        simple_storage_bootstrap.initialize_simple_storage: '"name": f"TransferQueueStorageUnit#{storage_unit_rank}"',
        transfer_queue.init: 'name="TransferQueueController", namespace="transfer_queue"',
        vllm_async_server.vLLMReplica.launch_servers: 'name = f"{prefix}server_{self.replica_rank}_{node_rank}',
    }
    for function, text in named.items():
        assert text in inspect.getsource(function), function
    assert "class WorkerDict(worker_cls)" in inspect.getsource(ray_base.create_colocated_worker_cls)
    assert vllm_async_server.vLLMReplica._get_server_name_prefix(None) == "vllm_"
    assert main_ppo.TaskRunnerV1.__ray_actor_class__.__name__ == "TaskRunnerV1"


def test_a_server_keeps_its_engine_and_a_task_on_its_event_loop_and_workers_have_a_health_check():
    source = inspect.getsource(vllm_async_server.vLLMHttpServer.run_server)
    assert source.index("self.engine = engine_client") < source.index("self._server_task = await run_uvicorn(")
    assert list(inspect.signature(AsyncLLM.collective_rpc).parameters)[:2] == ["self", "method"]
    assert list(inspect.signature(WorkerBase.check_health).parameters) == ["self"]


def test_ray_reports_the_reason_of_a_death():
    reasons = common_pb2.ActorDiedErrorContext.Reason.keys()
    assert {"WORKER_DIED", "NODE_DIED", "RAY_KILL", "OUT_OF_SCOPE"} <= set(reasons)
    assert {"actor_died_error_context", "oom_context"} <= set(common_pb2.ActorDeathCause.DESCRIPTOR.fields_by_name)


def test_an_update_with_a_gradient_that_is_not_finite_is_skipped_shows_in_the_mean_and_moves_the_schedule():
    source = inspect.getsource(transformer_impl.FSDPEngine.optimizer_step)
    skipped = source.partition("if not torch.isfinite(grad_norm):")[2]
    assert skipped.index("self.optimizer.zero_grad()") < skipped.index("self.optimizer.step()")
    assert math.isnan(reduce_metrics({"grad_norm": [0.5, math.nan]})["grad_norm"])
    assert "update_lr_scheduler=batch_idx == total_num_iterations - 1" in inspect.getsource(
        engine_workers.TrainingWorker.train_mini_batch
    )


def test_the_metrics_that_guards_check_are_reported():
    data_metrics = inspect.getsource(metric_utils.compute_data_metrics)
    for name in ("critic/score/max", "critic/score/min", "critic/advantages/max", "critic/advantages/min"):
        assert f'"{name}"' in data_metrics
    assert '"training/rollout_probs_diff_mean"' in inspect.getsource(calculate_debug_metrics)
    assert '"actor/entropy"' in inspect.getsource(PPOTrainer._compute_old_log_prob)
