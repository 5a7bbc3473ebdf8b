"""Recipes for real models with one mistake each: every one is refused with the key and the fix."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants
from omegaconf import OmegaConf
from transformers import AutoConfig

from reinforcepp_verl.preflight import examine, secrets
from reinforcepp_verl.preflight.findings import Findings

RECIPE = "math_rlvr/qwen25_7b_dapo"
ACTOR, ROLLOUT, MODEL = "actor_rollout_ref.actor", "actor_rollout_ref.rollout", "actor_rollout_ref.model"


@dataclass(frozen=True)
class Mistake:
    """Overrides that make a recipe wrong, and what the one line about it must contain."""

    name: str
    overrides: tuple[str, ...]
    says: tuple[str, ...]
    recipe: str = RECIPE
    environment: dict[str, str] = field(default_factory=dict)


MISTAKES = [
    Mistake(
        "answers that the GPUs cannot share",
        ("data.train_batch_size=9", f"{ROLLOUT}.n=2", f"{ACTOR}.ppo_mini_batch_size=9"),
        ("data.train_batch_size is 9", "18 answers, not divisible by 8 workers", "a multiple of 8"),
    ),
    Mistake(
        "mini-batch that does not divide the batch",
        (f"{ACTOR}.ppo_mini_batch_size=48",),
        (f"{ACTOR}.ppo_mini_batch_size is 48", f"set {ACTOR}.ppo_mini_batch_size=32"),
    ),
    Mistake(
        "micro-batch that does not divide",
        (
            f"{ACTOR}.use_dynamic_bsz=false",
            f"{ACTOR}.ppo_micro_batch_size_per_gpu=3",
            *[f"actor_rollout_ref.{node}.log_prob_micro_batch_size_per_gpu=4" for node in ("rollout", "ref")],
        ),
        (f"{ACTOR}.ppo_micro_batch_size_per_gpu is 3", f"set {ACTOR}.ppo_micro_batch_size_per_gpu=2"),
    ),
    Mistake(
        "engines that do not divide the GPUs",
        (f"{ROLLOUT}.tensor_model_parallel_size=3",),
        (f"{ROLLOUT}.tensor_model_parallel_size is 3", "a divisor of 8"),
    ),
    Mistake(
        "engines that do not divide the attention heads",
        (f"{ROLLOUT}.tensor_model_parallel_size=8",),
        (f"{ROLLOUT}.tensor_model_parallel_size is 8", "28 attention heads", "one of 1, 2, 4"),
    ),
    Mistake(
        "sequence parallel workers that do not divide the GPUs",
        (f"{ACTOR}.ulysses_sequence_parallel_size=3",),
        (f"{ACTOR}.ulysses_sequence_parallel_size is 3", f"set {ACTOR}.ulysses_sequence_parallel_size=2"),
    ),
    Mistake(
        "sequence parallel workers that do not divide the attention heads",
        (f"{ACTOR}.ulysses_sequence_parallel_size=8",),
        (f"{ACTOR}.ulysses_sequence_parallel_size is 8", "28 attention heads"),
    ),
    Mistake(
        "a share above one",
        (f"{ROLLOUT}.gpu_memory_utilization=70",),
        (f"{ROLLOUT}.gpu_memory_utilization is 70", f"set {ROLLOUT}.gpu_memory_utilization=0.5"),
    ),
    Mistake(
        "a GPU without memory",
        ("hardware.gpu_memory_gib=0",),
        ("hardware.gpu_memory_gib is 0", "in GiB"),
    ),
    Mistake(
        "training data that was not prepared",
        ("data.train_files=data/deepscaler/train.parquet",),
        ("data.train_files", "run `reinforcepp prepare deepscaler`"),
    ),
    Mistake(
        "validation data that was not prepared",
        ("data.val_files=data/aime25/test.parquet",),
        ("data.val_files", "run `reinforcepp prepare aime25`"),
    ),
    Mistake(
        "a column that is not there",
        ("data.prompt_key=question",),
        ("has no column question", "data.prompt_key", "prompt"),
    ),
    Mistake(
        "a model folder that is not there",
        (f"{MODEL}.path=./models/mine",),
        (f"{MODEL}.path: no such folder: ./models/mine", "Hugging Face hub"),
    ),
    Mistake(
        "a tokenizer without a chat template",
        (
            f"{MODEL}.path=no_template",
            "data.max_response_length=8",
            "data.max_prompt_length=8",
            f"{ROLLOUT}.max_model_len=16",
        ),
        (f"{MODEL}.path", "no chat template", f"{MODEL}.custom_chat_template"),
    ),
    Mistake(
        "a misspelt key in YAML",
        (f"{ACTOR}.clip_ratio_hgih=0.27",),
        (f"{ACTOR}.clip_ratio_hgih: unknown key", f"did you mean {ACTOR}.clip_ratio_high?"),
    ),
    Mistake(
        "longer than the model's positions",
        (
            "data.max_response_length=200000",
            f"{ROLLOUT}.max_model_len=null",
            f"{ACTOR}.ppo_max_token_len_per_gpu=201024",
        ),
        ("data.max_response_length is 200000", "131072 positions", "130048 or less"),
    ),
    Mistake(
        "an engine shorter than the sequences",
        (f"{ROLLOUT}.max_model_len=8192",),
        (f"{ROLLOUT}.max_model_len is 8192", f"set {ROLLOUT}.max_model_len=9216"),
    ),
    Mistake(
        "an engine longer than the model's positions",
        (f"{ROLLOUT}.max_model_len=262144",),
        (f"{ROLLOUT}.max_model_len is 262144", "131072 positions"),
    ),
    Mistake(
        "prefills that do not fit without being cut",
        (f"{ROLLOUT}.enable_chunked_prefill=false",),
        (f"{ROLLOUT}.max_num_batched_tokens is 8192", f"set {ROLLOUT}.max_num_batched_tokens=9216"),
    ),
    Mistake(
        "a token budget below one sequence",
        (f"{ACTOR}.ppo_max_token_len_per_gpu=8192",),
        (f"{ACTOR}.ppo_max_token_len_per_gpu is 8192", "9216 or more"),
    ),
    Mistake(
        "an adaptive coefficient without a penalty",
        ("algorithm.kl_ctrl.type=adaptive",),
        ("algorithm.kl_ctrl.type is adaptive", "set algorithm.kl_ctrl.type=fixed"),
        recipe="math_rlvr/qwen25_7b_dapo_baseline",
    ),
    Mistake(
        "a correction that bypass mode skips",
        ("algorithm.rollout_correction.rollout_is=token",),
        ("bypass_mode is true", "rollout_is", "bypass_mode=false"),
        recipe="math_rlvr/qwen25_7b_dapo_bypass",
    ),
    Mistake(
        "a correction without the engine's log-probabilities",
        (f"{ROLLOUT}.calculate_log_probs=false",),
        (f"{ROLLOUT}.calculate_log_probs is false", f"set {ROLLOUT}.calculate_log_probs=true"),
        recipe="math_rlvr/r1_distill_15b_prorl",
    ),
    Mistake(
        "a filter without a metric",
        ("algorithm.filter_groups.metric=null",),
        ("algorithm.filter_groups.metric", "acc"),
        recipe="math_rlvr/r1_distill_15b_prorl",
    ),
    Mistake(
        "asynchronous batches that do not fit together",
        ("data.train_batch_size=64",),
        ("data.train_batch_size is 64", "set data.train_batch_size=128"),
        recipe="math_rlvr/qwen25_7b_dapo_separate_async",
    ),
    Mistake(
        "weights that cannot be sent to other GPUs",
        (f"{ROLLOUT}.checkpoint_engine.backend=naive",),
        (f"{ROLLOUT}.checkpoint_engine.backend is naive", "set it to nccl"),
        recipe="math_rlvr/qwen25_7b_dapo_separate_async",
    ),
    Mistake(
        "an access token in the YAML",
        ("ray_kwargs.ray_init.runtime_env={env_vars: {WANDB_API_KEY: 0123456789abcdef0123}}",),
        ("WANDB_API_KEY is a secret", "export it"),
    ),
    Mistake(
        "an access token read into the YAML",
        ("ray_kwargs.ray_init.runtime_env={env_vars: {MY_NAME: '${oc.env:SOME_VARIABLE}'}}",),
        ("MY_NAME is a secret", "export it"),
        environment={"SOME_VARIABLE": "hf_" + "a" * 34},
    ),
    Mistake(
        "epochs that end before the steps",
        ("trainer.total_training_steps=500", "trainer.total_epochs=1"),
        ("trainer.total_training_steps is 500", "trainer.total_epochs"),
    ),
    Mistake(
        "a reward model without an engine",
        ("reward.reward_model.rollout.name=vlm", "trainer.total_epochs=98"),
        ("reward.reward_model.rollout.name is vlm", "set reward.reward_model.rollout.name=vllm"),
        recipe="rlhf/llama3_8b_paper",
    ),
    Mistake(
        "no engines to generate with",
        (f"{ROLLOUT}.n_gpus_per_node=0",),
        (f"{ROLLOUT}.n_gpus_per_node is 0", "a multiple of 1"),
        recipe="math_rlvr/qwen25_7b_dapo_separate_async",
    ),
    Mistake(
        "separate training without engines on its GPUs",
        ("actor_rollout_ref.hybrid_engine=false",),
        ("actor_rollout_ref.hybrid_engine is false", "set actor_rollout_ref.hybrid_engine=true"),
        recipe="math_rlvr/qwen25_7b_dapo_separate_async",
    ),
    Mistake(
        "a reward model on GPUs that are never free",
        (
            "reward.reward_model.enable=true",
            "reward.reward_model.model_path=a/b",
            "reward.reward_model.rollout.name=vllm",
        ),
        ("reward.reward_model.enable_resource_pool is false", "set reward.reward_model.enable_resource_pool=true"),
        recipe="math_rlvr/qwen25_7b_dapo_separate_async",
    ),
    Mistake(
        "a reward function beside a reward model on the policy's GPUs",
        ("reward.custom_reward_function.path=pkg://reinforcepp_verl.rewards.arithmetic", "trainer.total_epochs=98"),
        ("reward.reward_model.enable_resource_pool is false", "set reward.reward_model.enable_resource_pool=true"),
        recipe="rlhf/llama3_8b_paper",
    ),
    Mistake(
        "a reward model that never wakes up",
        (
            *("reward.reward_model.enable_resource_pool=true", "reward.reward_model.nnodes=1"),
            "trainer.total_epochs=98",
        ),
        (
            "reward.reward_model.rollout.free_cache_engine is true",
            "set reward.reward_model.rollout.free_cache_engine=false",
        ),
        recipe="rlhf/llama3_8b_paper",
    ),
    Mistake(
        "a reward function without the reward model that it asks",
        ("reward.reward_model.enable=false",),
        ("reward.reward_model.enable is false", "set reward.reward_model.enable=true"),
        recipe="rlhf/length_bias_cpu",
    ),
    Mistake(
        "a reward model that is not there",
        ("reward.reward_model.model_path=./my_reward_model",),
        ("reward.reward_model.model_path: no such folder: ./my_reward_model", "set reward.reward_model.model_path"),
        recipe="rlhf/length_bias_cpu",
    ),
    Mistake(
        "a reward model that sleeps on the CPU",
        ("reward.reward_model.rollout.enable_sleep_mode=true",),
        ("reward.reward_model.rollout.enable_sleep_mode is true", "=false or cluster=cpu"),
        recipe="rlhf/length_bias_cpu",
    ),
    Mistake(
        "a reward model that reads too little",
        ("reward.reward_model.rollout.max_model_len=1024", "trainer.total_epochs=98"),
        ("reward.reward_model.rollout.max_model_len is 1024", "set reward.reward_model.rollout.max_model_len=4096"),
        recipe="rlhf/llama3_8b_paper",
    ),
    Mistake(
        "a reward model on more GPUs than there are",
        ("reward.reward_model.rollout.tensor_model_parallel_size=16", "trainer.total_epochs=98"),
        ("reward.reward_model.rollout.tensor_model_parallel_size is 16", "must divide the 8 GPUs"),
        recipe="rlhf/llama3_8b_paper",
    ),
    Mistake(
        "groups filtered before a reward model has scored them",
        ("algorithm.filter_groups.enable=true", "algorithm.filter_groups.metric=reward"),
        ("algorithm.filter_groups.enable is true", "set algorithm.filter_groups.enable=false"),
        recipe="rlhf/llama3_8b_paper",
    ),
    Mistake(
        "groups filtered by what the reward does not return",
        ("algorithm.filter_groups.metric=accuracy",),
        ("algorithm.filter_groups.metric is accuracy", "acc, reward, score, format"),
        recipe="math_rlvr/r1_distill_15b_prorl",
    ),
    Mistake(
        "bounds of IcePop the wrong way round",
        ("algorithm.rollout_correction.rollout_is_threshold='5.0_0.5'",),
        ("algorithm.rollout_correction.rollout_is_threshold is '5.0_0.5'", "'0.5_5.0' for IcePop"),
        recipe="math_rlvr/qwen25_7b_dapo_colocate_async",
    ),
    Mistake(
        "offloading that FSDP1 does not read",
        (f"{ACTOR}.fsdp_config.offload_policy=true",),
        (f"{ACTOR}.fsdp_config.offload_policy is true", f"set {ACTOR}.strategy=fsdp2"),
    ),
    Mistake(
        "shards that do not divide the workers",
        (f"{ACTOR}.fsdp_config.fsdp_size=3",),
        (f"{ACTOR}.fsdp_config.fsdp_size is 3", "must divide the 8 workers"),
    ),
    Mistake(
        "an unknown data type",
        (f"{ROLLOUT}.dtype=fp8",),
        (f"{ROLLOUT}.dtype is fp8", f"set {ROLLOUT}.dtype=bfloat16"),
    ),
    Mistake("a negative rank", (f"{MODEL}.lora_rank=-1",), (f"{MODEL}.lora_rank is -1", f"set {MODEL}.lora_rank=0")),
    Mistake(
        "no bucket to send weights in",
        (f"{ROLLOUT}.checkpoint_engine.update_weights_bucket_megabytes=null",),
        ("update_weights_bucket_megabytes is None", "an integer >= 1"),
    ),
    Mistake(
        "an engine that cannot free its cache",
        (f"{ROLLOUT}.enable_sleep_mode=false",),
        (f"{ROLLOUT}.enable_sleep_mode is false", f"set {ROLLOUT}.enable_sleep_mode=true"),
    ),
    Mistake(
        "options that another method does not read",
        ("algorithm.adv_estimator=grpo", f"{ACTOR}.clip_ratio_c=3.0", f"{ACTOR}.policy_loss.loss_mode=vanilla"),
        ("algorithm.reinforcepp is set", "set algorithm.reinforcepp.statistics=batch"),
        recipe="math_rlvr/qwen25_7b_dapo_colocate_async",
    ),
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, arithmetic) -> Path:
    """A folder with the data that the recipes above read, and a model whose tokenizer has no chat template."""
    root = tmp_path_factory.mktemp("prepared")
    for name, file in (("dapo_math_17k", "train"), ("aime24", "test"), ("preferences", "train")):
        (root / "data" / name).mkdir(parents=True)
        (root / "data" / name / f"{file}.parquet").symlink_to(arithmetic / "data" / "arithmetic" / "train.parquet")
    model = root / "no_template"
    shutil.copytree(arithmetic / "data" / "arithmetic" / "model", model)
    (model / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((model / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    return root


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake.name for mistake in MISTAKES])
def test_mistake_is_refused_with_key_and_fix(recipe_as_meant, prepared, monkeypatch, mistake):
    monkeypatch.chdir(prepared)
    for name, given in mistake.environment.items():
        monkeypatch.setenv(name, given)
    found = examine(recipe_as_meant(mistake.recipe, *mistake.overrides), other_machine=True).errors
    assert any(all(part in problem for part in mistake.says) for problem in found), found
    assert all("\n" not in problem for problem in found)
    for secret in ("0123456789abcdef0123", "hf_" + "a" * 34):
        assert all(secret not in problem for problem in found)


def test_a_hub_model_without_a_network_must_be_in_the_cache(recipe_as_meant, prepared, monkeypatch):
    monkeypatch.chdir(prepared)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    [problem] = examine(recipe_as_meant(RECIPE), other_machine=True).errors
    assert f"{MODEL}.path: HF_HUB_OFFLINE is set" in problem and "`hf download Qwen/Qwen2.5-7B`" in problem


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("trainer.experiment_name=sk-learn-style-long-baseline", False),
        ("data.tokenizer=my_tokenizer", False),
        *[(f"env.{name}=abcdefgh12", False) for name in ("EOS_TOKEN", "pad_token", "image_token", "MAX_TOKENS")],
        ("env.access_token=/path/to/token_file", False),
        ("env.api_key=EMPTY", False),
        *[(f"env.{name}=abcdefgh12", True) for name in ("api_token", "GITHUB_TOKEN", "WANDB_KEY", "passphrase")],
        ("env.proxy='https://user:password@host'", True),
        ("env.command='curl -H hf_abcdefghijklmnopqrstuvwxyzabcdefgh'", True),
        ("env.keys=['glpat-abcdefghijklmnopqrst']", True),
    ],
)
def test_secrets_are_distinguished_from_ordinary_settings(name, found):
    key, _, text = name.partition("=")
    config = OmegaConf.create()
    OmegaConf.update(config, key, yaml.safe_load(text), force_add=True)
    assert bool(secrets.check(config)) is found


def test_a_critic_that_is_not_downloaded_needs_no_network(recipe_as_meant, prepared, monkeypatch):
    monkeypatch.chdir(prepared)
    monkeypatch.setattr(AutoConfig, "from_pretrained", lambda *_, **__: pytest.fail("the hub is asked"))
    # The stand-ins for the recipe's data are bare questions.
    sizes = [f"{ROLLOUT}.gpu_memory_utilization=0.4", "preflight.allow=[answer_format]"]
    sizes += [f"critic.{key}={value}" for key, value in (("ppo_mini_batch_size", 64), ("use_dynamic_bsz", "true"))]
    assert examine(recipe_as_meant(RECIPE, "+method=ppo", *sizes), other_machine=True) == Findings()


@pytest.mark.parametrize("content", ["{", "[]", None])
def test_a_damaged_tokenizer_is_one_line(recipe_as_meant, prepared, tmp_path, monkeypatch, content):
    monkeypatch.chdir(prepared)
    model = tmp_path / "model"
    shutil.copytree(prepared / "no_template", model)
    if content is None:
        (model / "tokenizer_config.json").unlink()
    else:
        (model / "tokenizer_config.json").write_text(content)
    lengths = ("data.max_response_length=8", "data.max_prompt_length=8", f"{ROLLOUT}.max_model_len=16")
    [problem] = examine(recipe_as_meant(RECIPE, f"{MODEL}.path={model}", *lengths), other_machine=True).errors
    assert f"{MODEL}.path" in problem and "\n" not in problem
