"""What `reinforcepp check` finds: each wrong configuration gives one line that names the key and the fix."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf

from reinforcepp_verl.common import hardware
from reinforcepp_verl.config import search_path
from reinforcepp_verl.config.dataclass_source import fields_of
from reinforcepp_verl.preflight import batch_sizes, examine, registered_names, verl_validation

RECIPE = "+recipe=math_rlvr/arithmetic"
ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
SAMPLER = "trainer.v1.sampler.sampler_kwargs"
MICRO = (
    f"{ACTOR}.ppo_micro_batch_size_per_gpu",
    f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu",
    "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu",
)
# The recipe with fixed sizes: 64 prompts x 4 answers on one worker, in one micro-batch.
TASK = (
    RECIPE,
    "data.train_batch_size=64",
    f"{ACTOR}.ppo_mini_batch_size=64",
    f"{ROLLOUT}.n=4",
    f"{ACTOR}.use_dynamic_bsz=false",
    *(f"{key}=256" for key in MICRO),
    "trainer.total_training_steps=4",
)
ONE_ANSWER = " ".join([f"{ROLLOUT}.n=1", *(f"{key}=64" for key in MICRO)])
TWO_WORKERS = " ".join(["trainer.n_gpus_per_node=2", *(f"{key}=128" for key in MICRO)])
ROW = {
    "data_source": "x",
    "prompt": [{"role": "user", "content": "1+1="}],
    "reward_model": {"style": "rule", "ground_truth": "2"},
}

# overrides, the start of the only problem, and another text that it must contain
BROKEN = [
    # keys
    ("algorithm.gama=0.9", "algorithm.gama: unknown key", "did you mean algorithm.gamma?"),
    (f"{ACTOR}.optim.lrr=1", f"{ACTOR}.optim.lrr: unknown key", f"did you mean {ACTOR}.optim.lr?"),
    ("actor.optim.lr=1", "actor: unknown key", "did you mean actor_rollout_ref.actor?"),
    ("foo.bar=1", "foo: unknown key", "remove it"),
    (f"{ACTOR}.fsdp_config.mixed_precision.parm_dtype=fp32", f"{ACTOR}.fsdp_config.mixed_precision.parm_dtype", "para"),
    ("trainer.v1.sampler.sampler_kwargs.stall_dedline_s=1", "trainer.v1.sampler.", "stall_deadline_s?"),
    ("ray_kwargs.ray_init.num_cpu=1", "ray_kwargs.ray_init.num_cpu: unknown key", "ray_kwargs.ray_init.num_cpus"),
    ("algorithm.reinforcepp.epz=1", "algorithm.reinforcepp.epz: ", "valid keys: population, unbiased_variance"),
    ("recipe=math_rlvr/foo", "recipe=math_rlvr/foo: ", "known names: agents/calculator"),
    (
        "method=grpo",
        "method=grpo: ",
        "known names: flash_reinforce, grpo, ppo, raft, reinforce, ",
    ),
    ("preset=openrhlf", "preset=openrhlf: ", "known names: openrlhf, paper, verl"),
    ("actor_rollout_ref=big", "actor_rollout_ref: is 'big'", "must have the keys"),
    ("reward_model.reward_manager=dapo", "reward_model.reward_manager=dapo", "reward.reward_manager.name"),
    ("custom_reward_function.path=a.py", "custom_reward_function.path=a.py", "set reward.custom_reward_function.path"),
    ("trainer.experiment_name='${trainer.nope}'", "trainer.experiment_name=${trainer.nope}: ", "correct the reference"),
    (f"{SAMPLER}=null", f"{SAMPLER} is null", "remove this setting"),
    # names
    (
        "algorithm.adv_estimator=reinforcep",
        "algorithm.adv_estimator is reinforcep",
        "(did you mean reinforcepp?); known",
    ),
    (f"{ACTOR}.policy_loss.loss_mode=vanila", f"{ACTOR}.policy_loss.loss_mode is vanila", "(did you mean vanilla?)"),
    # algorithm
    ("algorithm.gamma=abc", "algorithm.gamma is 'abc'", "set algorithm.gamma=1.0"),
    ("algorithm.kl_ctrl.kl_coef=-1", "algorithm.kl_ctrl.kl_coef is -1", ">= 0"),
    ("algorithm.kl_ctrl.kl_coef=inf", "algorithm.kl_ctrl.kl_coef is inf", "a finite number >= 0"),
    (f"{ACTOR}.optim.lr=abc", f"{ACTOR}.optim.lr is 'abc'", f"a number from 0 to 1; set {ACTOR}.optim.lr=1e-06"),
    (f"{ACTOR}.optim.lr=1e6", f"{ACTOR}.optim.lr is 1000000.0", "a number from 0 to 1"),
    (f"{ACTOR}.optim.weight_decay=-0.1", f"{ACTOR}.optim.weight_decay is -0.1", "a number from 0 to 1"),
    (f"{ACTOR}.optim.clip_grad=0", f"{ACTOR}.optim.clip_grad is 0", "a finite number > 0"),
    (f"{ACTOR}.grad_clip=0.5", f"{ACTOR}.grad_clip is 0.5: verl does not read it", f"set {ACTOR}.optim.clip_grad"),
    (f"{ACTOR}.clip_ratio=-5", f"{ACTOR}.clip_ratio is -5", "a finite number >= 0"),
    (f"{ACTOR}.clip_ratio_low=nan", f"{ACTOR}.clip_ratio_low is nan", f"set {ACTOR}.clip_ratio_low=0.2"),
    (f"{ACTOR}.clip_ratio_high=true", f"{ACTOR}.clip_ratio_high is True", f"set {ACTOR}.clip_ratio_high=0.2"),
    (f"{ACTOR}.entropy_coeff=y", f"{ACTOR}.entropy_coeff is 'y'", "to a finite number"),
    (f"{ACTOR}.kl_loss_coef=-1", f"{ACTOR}.kl_loss_coef is -1", "a finite number >= 0"),
    (f"{ACTOR}.use_kl_loss=maybe", f"{ACTOR}.use_kl_loss is 'maybe'", f"set {ACTOR}.use_kl_loss=false"),
    ("algorithm.use_kl_in_reward=off", "algorithm.use_kl_in_reward is 'off'", "it must be true or false"),
    (
        "trainer.val_before_train='${trainer.project_name}'",
        "trainer.val_before_train is 'reinforcepp'",
        "true or false",
    ),
    (f"+method=reinforcepp_baseline {ONE_ANSWER}", f"{ROLLOUT}.n is 1", "2 or more"),
    (f"+method=raft {ONE_ANSWER}", f"{ROLLOUT}.n is 1", "2 or more"),
    ("+method=reinforce algorithm.gamma=0.9", "algorithm.gamma is 0.9", "set algorithm.gamma=1.0"),
    ("algorithm.adv_estimator=remax", "algorithm.adv_estimator is remax", "reward_baselines"),
    (
        "+method=grpo algorithm.reinforcepp.reward_clip=null algorithm.reinforcepp.population=sample",
        "algorithm.reinforcepp is set",
        "adv_estimator is grpo",
    ),
    (
        f"{ACTOR}.loss_agg_mode=seq-mean-token-sum-norm",
        f"{ACTOR}.loss_agg_mode is seq",
        f"set {ACTOR}.loss_scale_factor=",
    ),
    ("+method=grpo algorithm.reinforcepp.population=sample", "algorithm.reinforcepp is set", "does not read it"),
    ("+method=reinforce_reward_to_go +preset=paper", "algorithm.reinforcepp.population is sample", "does not read it"),
    (
        "algorithm.reinforcepp.statistics_window=9",
        "algorithm.reinforcepp.statistics_window is 9",
        "set algorithm.reinforcepp.statistics_window=",
    ),
    ("trainer.save_freq=null", "trainer.save_freq is None", "set trainer.save_freq to an integer"),
    ("critic.checkpoint.async_save=true", "critic.checkpoint.async_save is true", "async_save=false"),
    (
        "critic.checkpoint.save_contents=[optimizer]",
        "critic.checkpoint.save_contents is ",
        "add model",
    ),
    (
        "trainer.max_actor_ckpt_to_keep=2 trainer.max_critic_ckpt_to_keep=3",
        "trainer.max_critic_ckpt_to_keep is 3",
        "set only trainer.max_actor_ckpt_to_keep",
    ),
    ("trainer.use_v1=false", "trainer.use_v1 is false", "set trainer.use_v1=true"),
    (
        "algorithm.rollout_correction.bypass_mode=true algorithm.rollout_correction.rollout_is=token",
        "algorithm.rollout_correction.bypass_mode is true",
        "verl skips algorithm.rollout_correction.rollout_is",
    ),
    (
        "algorithm.reinforcepp.baseline=none",
        "algorithm.reinforcepp.baseline is none",
        "reinforcepp does not read it here",
    ),
    ("algorithm.reinforcepp.population=tokens", "algorithm.reinforcepp.population", "one of token, sample"),
    ("algorithm.reinforcepp.reward_clip=[1,2]", "algorithm.reinforcepp.reward_clip", "low <= 0 <= high"),
    (
        "trainer.v1.trainer_mode=sync algorithm.reinforcepp.statistics=running",
        "trainer.v1.trainer_mode is sync",
        "set trainer.v1.trainer_mode=reinforcepp_sync",
    ),
    ("trainer.v1.trainer_mode=async", "trainer.v1.trainer_mode is async", "reinforcepp_colocate_async"),
    ("+method=reinforcepp_baseline algorithm.gamma=0.9", "algorithm.gamma is 0.9", "set algorithm.gamma=1.0"),
    (
        f"+method=reinforcepp_baseline algorithm.use_kl_in_reward=true {ACTOR}.use_kl_loss=false"
        " trainer.v1.trainer_mode=sync preflight.allow=[kl_in_baseline_reward]",
        "trainer.v1.trainer_mode is sync",
        "cannot provide what reinforcepp_baseline with algorithm.use_kl_in_reward=true needs",
    ),
    ("preflight.allow=[kl_lose_gradient]", "preflight.allow has kl_lose_gradient", "(did you mean kl_loss_gradient?)"),
    ("preflight=null", "preflight is null", "remove this setting"),
    (f"{ACTOR}.clip_ratio_c=0.5", f"{ACTOR}.clip_ratio_c is 0.5", f"set {ACTOR}.clip_ratio_c=3.0, or null"),
    (f"{ACTOR}.policy_loss.loss_mode=vanilla", f"{ACTOR}.clip_ratio_c is null", f"set {ACTOR}.clip_ratio_c=3.0"),
    (
        "algorithm.filter_groups.enable=true algorithm.filter_groups.metric=null",
        "algorithm.filter_groups.enable is true",
        "set algorithm.filter_groups.metric=reward",
    ),
    # batches
    ("data.train_batch_size=0", "data.train_batch_size is 0", "integer >= 1"),
    (f"{ACTOR}.ppo_micro_batch_size_per_gpu=null", f"{ACTOR}.ppo_micro_batch_size_per_gpu is None", "integer >= 1"),
    (f"{ACTOR}.ppo_mini_batch_size=48", f"{ACTOR}.ppo_mini_batch_size is 48", f"set {ACTOR}.ppo_mini_batch_size=32"),
    (f"{ACTOR}.ppo_mini_batch_size=128", f"{ACTOR}.ppo_mini_batch_size is 128", f"set {ACTOR}.ppo_mini_batch_size=64"),
    (
        f"{ACTOR}.ppo_micro_batch_size_per_gpu=100",
        f"{ACTOR}.ppo_micro_batch_size_per_gpu is 100: it must divide the 256",
        f"set {ACTOR}.ppo_micro_batch_size_per_gpu=64",
    ),
    (f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu=7", f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu is 7", "=4"),
    ("trainer.n_gpus_per_node=3", "data.train_batch_size is 64", "multiple of 3"),
    (f"{ROLLOUT}.tensor_model_parallel_size=2", f"{ROLLOUT}.tensor_model_parallel_size is 2", "_size=1"),
    (f"{ROLLOUT}.log_prob_use_dynamic_bsz=true", f"{ROLLOUT}.log_prob_use_dynamic_bsz is True", "set both or neither"),
    (
        f"{ACTOR}.use_dynamic_bsz=true {ACTOR}.ppo_max_token_len_per_gpu=8 data.max_prompt_length=16"
        f" {ROLLOUT}.log_prob_max_token_len_per_gpu=99 actor_rollout_ref.ref.log_prob_max_token_len_per_gpu=99",
        f"{ACTOR}.ppo_max_token_len_per_gpu is 8: ",
        "to 24 or more",
    ),
    ("+method=ppo", "critic.ppo_micro_batch_size_per_gpu is None", "integer >= 1"),
    (
        f"trainer.v1.trainer_mode=reinforcepp_separate_async {ROLLOUT}.nnodes=1"
        f" {ROLLOUT}.checkpoint_engine.backend=nccl trainer.v1.separate_async.parameter_sync_step=128",
        "data.train_batch_size is 64: separate_async needs",
        "set data.train_batch_size=8192",
    ),
    # trainer
    (
        "trainer.default_local_dir=/disk",
        "trainer.default_local_dir is /disk",
        "remove it and set runs_dir; to continue",
    ),
    ("trainer.total_epochs=0", "trainer.total_epochs is 0", "integer >= 1"),
    ("trainer.total_epochs=1.5", "trainer.total_epochs is 1.5", "integer >= 1"),
    ("trainer.total_training_steps=all", "trainer.total_training_steps is 'all'", "or to null"),
    ("seed=one", "seed is 'one'", "set seed=1"),
    ("seed=true", "seed is True", "set seed=1"),
    ("runs_dir=null", "runs_dir is None", "set runs_dir=runs"),
    ("samples=null", "samples is null", "samples.groups_per_step=0 keeps no samples"),
    ("samples.groups_per_step=-1", "samples.groups_per_step is -1", "an integer >= 0"),
    ("samples.tokens_per_step=0", "samples.tokens_per_step is 0", "an integer >= 1"),
    ("trainer.experiment_name=42", "trainer.experiment_name is 42", "set trainer.experiment_name=my_run"),
    ("trainer.experiment_name=null", "trainer.experiment_name is None", "set trainer.experiment_name=my_run"),
    ("trainer.val_only=true trainer.val_before_train=false", "trainer.val_only is true", "val_before_train=true"),
    # platform
    (f"{ACTOR}.strategy=fsdp", f"{ACTOR}.strategy is fsdp", f"set {ACTOR}.strategy=fsdp2"),
    (f"{ROLLOUT}.enable_sleep_mode=true", f"{ROLLOUT}.enable_sleep_mode is true", "enable_sleep_mode=false"),
    (f"{ROLLOUT}.free_cache_engine=true", f"{ROLLOUT}.free_cache_engine is true", "free_cache_engine=false"),
    # data, model, reward
    (
        "data.train_files=data/arithmetic/trian.parquet",
        "data.train_files: no such file",
        "reinforcepp prepare arith",
    ),
    (
        "data.val_files=[nowhere/val.parquet]",
        "data.val_files: no such file: nowhere",
        "set data.val_files to an existing file",
    ),
    ("data.train_files=[]", "data.train_files is []", "set it to a .parquet"),
    (
        "data.train_files='~/x.parquet'",
        "data.train_files: verl does not expand the ~",
        os.path.expanduser("~/x.parquet"),
    ),
    ("trainer.total_training_steps=9 trainer.total_epochs=2", "trainer.total_training_steps is 9", "total_epochs=3"),
    ("data.train_batch_size=256 data.train_max_samples=100", "data.train_batch_size is 256", "100 or less"),
    ("actor_rollout_ref.model.path=./modle", "actor_rollout_ref.model.path: no such folder: ./modle", "hub"),
    (
        "actor_rollout_ref.model.path=data",
        "actor_rollout_ref.model.path: data has no config.json and no",
        "save it",
    ),
    ("reward.custom_reward_function.path=pkg://reinforcepp_verl.rewards.arithmetik", "reward.custom_reward", "pkg://"),
    ("reward.custom_reward_function.path=/no/such.py", "reward.custom_reward_function.path is /no/such.py", ".py file"),
    ("reward.custom_reward_function.name=score", "reward.custom_reward_function.name is score", "compute_score"),
    # the machine
    (
        f"{TWO_WORKERS} {ROLLOUT}.tensor_model_parallel_size=2",
        f"{ROLLOUT}.engine_kwargs.vllm.distributed_executor_backend is uni: an engine of 2 workers",
        "distributed_executor_backend=mp",
    ),
    (
        f"+method=rloo {ACTOR}.loss_agg_mode=token-mean",
        f"{ACTOR}.loss_agg_mode is token-mean: the loss reinforcepp_answer takes the answer as one action",
        f"set {ACTOR}.loss_agg_mode=seq-mean-token-sum",
    ),
    (
        f"+method=reinforce_reward_to_go {ACTOR}.policy_loss.loss_mode=reinforcepp_answer",
        f"{ACTOR}.policy_loss.loss_mode is reinforcepp_answer: it takes the answer as one action, and reinforce_rew",
        "or use +method=reinforce or +method=rloo",
    ),
    (
        "+method=rloo algorithm.rollout_correction.rollout_is=token",
        "algorithm.rollout_correction.rollout_is is token: the loss reinforcepp_answer takes the answer as one action",
        "set algorithm.rollout_correction.rollout_is=sequence",
    ),
    (
        "+method=rloo algorithm.rollout_correction.rollout_rs=token_k1 "
        "algorithm.rollout_correction.rollout_rs_threshold=0.5_2.0",
        "algorithm.rollout_correction.rollout_rs is token_k1: the loss reinforcepp_answer",
        "use a rejection of answers",
    ),
    (
        "+method=rloo algorithm.rollout_gate.divergence=binary_kl algorithm.rollout_gate.level=token",
        "algorithm.rollout_gate.level is token: the loss reinforcepp_answer has one ratio for a whole answer",
        "set algorithm.rollout_gate.level=answer",
    ),
    ("+method=remax skip.rollout_tq.enable=true", "skip.rollout_tq.enable is true", "set skip.rollout_tq.enable=false"),
    (
        f"+method=remax {ROLLOUT}.agent.agent_loop_manager_class=null",
        f"{ROLLOUT}.agent.agent_loop_manager_class is None: greedy_baseline needs a greedy answer",
        f"set {ROLLOUT}.agent.agent_loop_manager_class=reinforcepp_verl.integration.greedy_rollouts.",
    ),
    (
        "+method=remax algorithm.adv_estimator=reinforcepp",
        f"{ROLLOUT}.agent.agent_loop_manager_class is reinforcepp_verl.integration.greedy_rollouts.",
        "which reinforcepp does not read; use +method=remax",
    ),
    (
        "+method=remax trainer.v1.trainer_mode=sync",
        "trainer.v1.trainer_mode is sync, verl's own trainer, which cannot provide what greedy_baseline needs",
        "set trainer.v1.trainer_mode=reinforcepp_sync",
    ),
    (
        "algorithm.rollout_gate.limit=0.1",
        "algorithm.rollout_gate is set, but algorithm.rollout_gate.divergence is none",
        "set algorithm.rollout_gate.divergence to one of binary_kl, total_variation",
    ),
    (
        "algorithm.rollout_gate.divergence=kl",
        "algorithm.rollout_gate.divergence is 'kl'",
        "one of none, binary_kl, total_variation",
    ),
    (
        f"trainer.v1.trainer_mode=sync {ROLLOUT}.calculate_log_probs=true algorithm.rollout_gate.divergence=binary_kl",
        "trainer.v1.trainer_mode is sync, verl's own trainer, which cannot provide what algorithm.rollout_gate needs",
        "set trainer.v1.trainer_mode=reinforcepp_sync",
    ),
    (
        f"{ROLLOUT}.calculate_log_probs=false algorithm.rollout_gate.divergence=binary_kl",
        f"{ROLLOUT}.calculate_log_probs is false: algorithm.rollout_gate.divergence=binary_kl needs the engine's",
        f"set {ROLLOUT}.calculate_log_probs=true",
    ),
    (
        f"+method=grpo {ROLLOUT}.calculate_log_probs=true algorithm.rollout_gate.divergence=binary_kl",
        "algorithm.rollout_gate.divergence is binary_kl: only the estimators reinforcepp",
        "set algorithm.rollout_gate.divergence=none",
    ),
    # verl's own
    (f"{ACTOR}.loss_agg_mode=mean", "verl refuses the configuration: ", "loss_agg_mode: mean"),
]

SOUND = [
    "",
    "+method=reinforcepp_baseline",
    "+method=grpo",
    "+method=rloo",
    "+method=rloo_verl",
    ONE_ANSWER,
    TWO_WORKERS,
    f"{ACTOR}.use_dynamic_bsz=true",
    f"+method=ppo {ACTOR}.use_dynamic_bsz=true",
    "actor_rollout_ref.model.path=Qwen/Qwen3-0.6B",
    "trainer.experiment_name=other trainer.total_training_steps=null",
    "trainer.val_only=true trainer.total_training_steps=1000",
    "algorithm.filter_groups.enable=true",
    f"trainer.v1.sampler.custom_sampler.path=mine.py {SAMPLER}=null",
    # valid keys that no base file lists
    f"{ACTOR}.ppo_infer_micro_batch_size_per_gpu=8",
    f"{ROLLOUT}.engine_kwargs.vllm.max_logprobs=1 actor_rollout_ref.model.override_config.tie_word_embeddings=true",
    "ray_kwargs.ray_init.address=auto ray_kwargs.ray_init.runtime_env.env_vars.A=b",
    "reward.custom_reward_function.reward_kwargs.bonus=1",
    "answers=4 actor_rollout_ref.rollout.n='${answers}'",
]


def problems(config, **where: bool) -> list[str]:
    """Return errors and warnings: a valid configuration has neither."""
    found = examine(config, **where)
    return [*found.errors, *map(str, found.warnings)]


@pytest.fixture(autouse=True)
def _in_arithmetic(arithmetic, monkeypatch):
    monkeypatch.chdir(arithmetic)


@pytest.mark.parametrize("overrides", SOUND)
def test_a_valid_configuration_has_no_problems(compose, overrides):
    assert problems(compose(*TASK, *overrides.split())) == []


@pytest.mark.parametrize(("overrides", "start", "fix"), BROKEN, ids=[case[0] for case in BROKEN])
def test_a_broken_configuration_gives_one_line_with_key_and_fix(compose, overrides, start, fix):
    found = problems(compose(*TASK, *overrides.split()))
    assert len(found) == 1, found
    assert "\n" not in found[0]
    assert found[0].startswith(start)
    assert fix in found[0]


@pytest.mark.parametrize("recipe", search_path.recipe_names())
def test_the_shipped_recipes_have_only_known_keys(compose, recipe):
    found = problems(compose(f"+recipe={recipe}"))
    assert not [problem for problem in found if "unknown key" in problem]


METHODS = [path.stem for path in sorted((search_path.config_dir() / "method").glob("*.yaml"))]


@pytest.mark.parametrize("method", ["", *METHODS])
def test_the_arithmetic_recipe_has_no_problems_with_any_method(compose, method):
    assert problems(compose(RECIPE, *([f"+method={method}"] if method else []))) == []


def test_a_later_stage_does_not_run_after_a_problem(compose):
    found = problems(compose(*TASK, "data.trian_files=x.parquet", "data.train_files=missing.parquet"))
    assert found == ["data.trian_files: unknown key; did you mean data.train_files?"]


def test_problems_of_one_stage_come_together(compose):
    found = problems(compose(*TASK, "runs_dir=null", "data.train_files=missing.parquet"))
    assert [problem.split()[0].rstrip(":") for problem in found] == ["runs_dir", "data.train_files"]


def test_the_checks_leave_the_configuration_as_it_was(compose):
    config = compose(RECIPE)
    before = OmegaConf.to_yaml(config)
    problems(config)
    assert OmegaConf.to_yaml(config) == before


def test_verl_source_gives_the_fields_of_its_dataclasses():
    from dataclasses import fields

    from verl.workers.config import FSDPActorConfig, RolloutConfig

    for cls in (FSDPActorConfig, RolloutConfig):
        target = f"verl.workers.config.{cls.__name__}"
        assert {field.name for field in fields(cls)} <= fields_of(target).keys() | {"_target_"}


def test_a_divisor_is_suggested_for_every_number():
    assert [batch_sizes._largest_divisor(number, 48) for number in (64, 7, 0)] == [32, 7, 1]


# --- the machine


@pytest.mark.parametrize(
    ("nodes", "platform", "overrides", "fragment"),
    [
        (
            (),
            None,
            "trainer.device=cuda",
            "trainer.device is cuda, but this machine has no accelerator; set cluster=cpu",
        ),
        ((), None, "trainer.device=cuda ray_kwargs.ray_init.address=auto", None),
        ((), "nvidia", "trainer.device=cuda", None),
        (("/",), "cpu", "trainer.device=cuda", "VERL_PLATFORM=cpu is exported; unset it"),
        (("/",), None, "trainer.device=cuda", None),
        (("/",), None, "", "trainer.device is cpu, but verl would use this machine's accelerator; export VERL_PLAT"),
    ],
)
def test_device_against_machine(compose, monkeypatch, nodes, platform, overrides, fragment):
    from reinforcepp_verl.preflight.machine import accelerator, check

    monkeypatch.setattr(hardware, "DEVICE_NODES", nodes)
    monkeypatch.delenv("VERL_PLATFORM")
    if platform:
        monkeypatch.setenv("VERL_PLATFORM", platform)
    config = compose(*TASK, *overrides.split())
    found = [*check(config), *accelerator(config)]
    assert found == [] if fragment is None else fragment in found[0]


def test_a_configuration_for_another_machine_needs_no_accelerator_here(compose, monkeypatch):
    monkeypatch.setattr(hardware, "DEVICE_NODES", ())
    monkeypatch.delenv("VERL_PLATFORM")
    config = compose(*TASK, "cluster=local")
    assert any("no accelerator" in problem for problem in problems(config))
    assert problems(config, other_machine=True) == []


# --- the plugin


@pytest.mark.parametrize("policy", ["none", "other", "NONE"])
def test_a_switched_off_plugin(compose, monkeypatch, policy):
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", policy)
    [problem] = problems(compose(RECIPE))
    assert problem.startswith(f"VERL_USE_EXTERNAL_PLUGINS={policy.lower()}: ")
    assert "unset it, or set it to reinforcepp" in problem


@pytest.mark.parametrize("policy", ["auto", "reinforcepp", "other, Reinforcepp"])
def test_a_plugin_that_is_switched_on(compose, monkeypatch, policy):
    from reinforcepp_verl.preflight.plugin_installed import check

    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", policy)
    assert check(compose(RECIPE)) == []


def test_a_switch_in_the_workers_environment(compose):
    variable = "ray_kwargs.ray_init.runtime_env.env_vars.VERL_USE_EXTERNAL_PLUGINS=none"
    [problem] = problems(compose(*TASK, variable))
    assert problem.startswith("VERL_USE_EXTERNAL_PLUGINS=none: ")


def test_a_plugin_that_is_not_installed(compose, monkeypatch):
    monkeypatch.setattr("reinforcepp_verl.preflight.plugin_installed.entry_points", lambda **_: ())
    [problem] = problems(compose(RECIPE))
    assert "verl.plugins: no installed package provides reinforcepp" in problem and "pip install --no-deps ." in problem


@pytest.mark.parametrize(("command", "fragment"), [("/no/python", "it does not start"), ("echo", "is not installed")])
def test_a_worker_interpreter_without_the_plugin(compose, command, fragment):
    [problem] = problems(compose(*TASK, f"ray_kwargs.ray_init.runtime_env.py_executable={command}"))
    assert problem.startswith(f"ray_kwargs.ray_init.runtime_env.py_executable is {command}: ") and fragment in problem


def test_a_plugin_that_fails_to_import(compose, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "reinforcepp_verl.plugin", None)
    monkeypatch.delattr("reinforcepp_verl.plugin", raising=False)
    [problem] = registered_names.look_up(compose(RECIPE))
    assert problem.startswith("reinforcepp_verl.plugin: the import fails with ModuleNotFoundError")


# --- data files


def _write(path, rows):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows, schema=None if rows else pa.schema([("prompt", pa.string())])), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("suffix", [".parquet", ".json", ".jsonl"])
def test_every_format_that_verl_reads(compose, tmp_path, suffix):
    file = tmp_path / f"train{suffix}"
    _write(file, [ROW] * 64)
    assert problems(compose(*TASK, f"data.train_files={file}")) == []


def test_a_column_that_is_missing_is_reported_for_each_file(compose):
    found = problems(compose(*TASK, "data.prompt_key=promt"))
    assert [problem.split()[1] for problem in found] == [f"data/arithmetic/{name}.parquet" for name in ("train", "val")]
    assert all("has no column promt (did you mean prompt?); add it, or set data.prompt_key" in text for text in found)


@pytest.mark.parametrize("suffix", [".parquet", ".json", ".jsonl"])
@pytest.mark.parametrize(
    ("rows", "fragment"),
    [
        ([], "has no rows"),
        ([ROW] * 3, "has only 3 rows, which is not enough for one step; set data.train_batch_size to 3 or less"),
        (
            [{**ROW, "prompt": "1+1="}] * 64,
            "row 0: data.prompt_key=prompt is '1+1=' (64 such rows); it must be a list of {role, co",
        ),
        ([{**ROW, "prompt": [{"role": "user"}]}] * 64, "it must be a list of {role, content}"),
        ([{**ROW, "reward_model": {"style": "rule"}}] * 64, "row 0: reward_model.ground_truth is null (64 such rows)"),
        ([{"prompt": ROW["prompt"]}] * 64, "has no column data_source"),
    ],
)
def test_wrong_content(compose, tmp_path, suffix, rows, fragment):
    file = tmp_path / f"train{suffix}"
    _write(file, rows)
    [problem] = problems(compose(*TASK, f"data.train_files={file}"))
    assert fragment in problem
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("name", "content", "fragment"),
    [
        ("a.parquet", b"PAR1 not a table", "is not a readable parquet file"),
        ("a.jsonl", b"{not json}\n", "is not a readable JSON file"),
        ("a.json", b"[1, 2]", "is not a readable JSON file (row 0 is 1, not an object)"),
        ("a.csv", b"a,b\n", "is not a file that ends in .parquet, .json, .jsonl"),
    ],
)
def test_malformed_files(compose, tmp_path, name, content, fragment):
    file = tmp_path / name
    file.write_bytes(content)
    [problem] = problems(compose(*TASK, f"data.val_files={file}"))
    assert problem.startswith(f"data.val_files: {file} {fragment}")


def test_verl_validation_prints_nothing(compose, capsys):
    verl_validation.check(compose(RECIPE))
    assert capsys.readouterr().out == ""
