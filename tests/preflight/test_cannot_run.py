"""Configurations that compose but cannot run: names that verl refuses, losses without their keys, files that fail."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer
from transformers.models.auto import tokenization_auto
from verl.trainer.ppo import core_algos
from verl.trainer.ppo.rollout_corr_helper import SUPPORTED_ROLLOUT_RS_OPTIONS
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.import_utils import load_extern_object
from verl.utils.tracking import Tracking
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

from reinforcepp_verl.config import keys
from reinforcepp_verl.preflight import (
    algorithm_settings,
    examine,
    loss_settings,
    model_files,
    reward_import,
    sequence_lengths,
    tokenizer_loading,
    trackers,
    weight_bucket,
)
from reinforcepp_verl.preflight.reward_keys import returned_keys

RECIPE = "+recipe=math_rlvr/arithmetic"
ACTOR, ROLLOUT, CORRECTION = "actor_rollout_ref.actor", "actor_rollout_ref.rollout", "algorithm.rollout_correction"
LOSS = f"{ACTOR}.policy_loss.loss_mode"
BYPASS = f"{LOSS}=bypass_mode {CORRECTION}.bypass_mode=true {ROLLOUT}.calculate_log_probs=true"
AS_LOSS = f"algorithm.use_kl_in_reward=false {ACTOR}.use_kl_loss=true preflight.allow=[kl_loss_gradient]"
REWARD = "reward.custom_reward_function"

REFUSED = [
    *(
        (f"algorithm.adv_estimator={name} {ROLLOUT}.n=1", f"{ROLLOUT}.n is 1", f"{name} compares the answers")
        for name in algorithm_settings.VERL_GROUP_ESTIMATORS
    ),
    *(
        (f"algorithm.kl_penalty={name}", f"algorithm.kl_penalty is {name}", "one of kl, k1, abs")
        for name in ("full", "k4")
    ),
    (f"{AS_LOSS} {ACTOR}.kl_loss_type=full", f"{ACTOR}.kl_loss_type is full", "one of kl, k1, abs"),
    (f"{AS_LOSS} {ACTOR}.kl_loss_type=k4+", f"{ACTOR}.kl_loss_type is k4+", "one of kl, k1, abs"),
    (f"{LOSS}=vanilla", f"{ACTOR}.clip_ratio_c is null", f"set {ACTOR}.clip_ratio_c=3.0"),
    (f"{LOSS}=dppo_tv", f"{ACTOR}.clip_ratio_c is null", f"set {ACTOR}.clip_ratio_c=20.0"),
    (f"{LOSS}=dppo_kl", f"{ACTOR}.clip_ratio_c is null", f"set {ACTOR}.clip_ratio_c=20.0"),
    (f"{LOSS}=dro", f"{ACTOR}.policy_loss.dro_beta is null", f"set {ACTOR}.policy_loss.dro_beta=1.0"),
    (f"{LOSS}=clip_cov {ACTOR}.policy_loss.clip_cov_ratio=0", "clip_cov_ratio is 0", "clip_cov_ratio=0.0002"),
    (
        f"{LOSS}=geo_mean {ACTOR}.ppo_max_token_len_per_gpu=1151",
        f"{LOSS} is geo_mean",
        f"set {ACTOR}.ppo_max_token_len_per_gpu=1152",
    ),
    (
        f"{LOSS}=geo_mean {ACTOR}.use_dynamic_bsz=false {ACTOR}.ppo_micro_batch_size_per_gpu=24 "
        f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu=24 actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=24",
        f"{LOSS} is geo_mean",
        f"set {ACTOR}.ppo_micro_batch_size_per_gpu=48",
    ),
    (f"{BYPASS}", f"{ACTOR}.clip_ratio_c is null", f"set {ACTOR}.clip_ratio_c=3.0"),
    (f"{BYPASS} {CORRECTION}.loss_type=ppo", f"{CORRECTION}.loss_type is ppo", "one of ppo_clip, reinforce"),
    (f"{LOSS}=bypass_mode {ACTOR}.clip_ratio_c=3.0", f"{LOSS} is bypass_mode", f"set {CORRECTION}.bypass_mode=true"),
    (
        f"{BYPASS} {ACTOR}.clip_ratio_c=3.0 {ACTOR}.policy_loss.rollout_correction={{loss_type: ppo_clip}}",
        f"{ACTOR}.policy_loss.rollout_correction differs",
        "remove it",
    ),
    (f"{CORRECTION}.rollout_is=sentence", f"{CORRECTION}.rollout_is is sentence", "one of token, sequence"),
    (f"{CORRECTION}.rollout_rs=token_k9", "verl has no rejection token_k9", "did you mean token_k"),
    (f"{CORRECTION}.rollout_rs=token_k1", f"{CORRECTION}.rollout_rs_threshold is null", "'0.5_2.0'"),
    (f"{CORRECTION}.bypass_mode=true {ROLLOUT}.calculate_log_probs=false", "calculate_log_probs is false", "=true"),
    ("trainer.logger=[console,wandbb]", "trainer.logger has wandbb", "did you mean wandb?"),
    ("trainer.logger=[console,mlflow]", "trainer.logger has mlflow", "`pip install mlflow`"),
    ("trainer.logger=[console,vemlp_wandb]", "trainer.logger has vemlp_wandb", "`pip install volcengine-ml-platform`"),
    ("trainer.logger=[console,3]", "trainer.logger has 3", "known names: console, file"),
    ("trainer.logger=null", "trainer.logger is None", "set 'trainer.logger=[console,file]'"),
    (
        "algorithm.filter_groups.enable=true algorithm.filter_groups.metric=acccc",
        "metric is acccc",
        "did you mean acc?",
    ),
]
SOUND = [
    f"{LOSS}=dppo_tv {ACTOR}.clip_ratio_c=20.0",
    f"{LOSS}=dro {ACTOR}.policy_loss.dro_beta=0.5",
    f"{BYPASS} {ACTOR}.clip_ratio_c=3.0",
    f"{BYPASS} {CORRECTION}.loss_type=reinforce {CORRECTION}.rollout_is=token",
    f"{AS_LOSS} {ACTOR}.kl_loss_type=k3+",
    "trainer.logger=[console,file,tensorboard]",
    "trainer.logger=console",
    "algorithm.kl_penalty=full algorithm.use_kl_in_reward=false guards.max_kl=null",
    "algorithm.filter_groups.enable=true algorithm.filter_groups.metric=acc",
]


@pytest.fixture(autouse=True)
def _in_arithmetic(arithmetic, monkeypatch):
    monkeypatch.chdir(arithmetic)


@pytest.mark.parametrize(("overrides", "start", "fix"), REFUSED, ids=[case[0] for case in REFUSED])
def test_what_cannot_run_is_refused(compose, overrides, start, fix):
    found = examine(compose(RECIPE, *_split(overrides))).errors
    assert len(found) == 1, found
    assert start in found[0] and fix in found[0] and "\n" not in found[0]


@pytest.mark.parametrize("overrides", SOUND)
def test_what_can_run_passes(compose, overrides):
    assert examine(compose(RECIPE, *overrides.split())).errors == []


def _split(overrides: str) -> list[str]:
    return (
        overrides.replace(": ", ":~").split()
        if "{" not in overrides
        else [part.replace("~", " ") for part in overrides.replace(": ", ":~").split()]
    )


def test_the_tables_are_verls():
    log_probs = torch.zeros(1, 1)
    for kind in loss_settings.KL_KINDS:
        core_algos.kl_penalty(log_probs, log_probs, kind)
        core_algos.kl_penalty(log_probs, log_probs, f"{kind}+")
    assert set(loss_settings.REJECTIONS) == SUPPORTED_ROLLOUT_RS_OPTIONS
    assert set(trackers.PACKAGES) - {"tracking"} == set(Tracking.supported_backend)
    assert list(sequence_lengths.CPU_HEAD_SIZES) == CPUAttentionBackend.get_supported_head_sizes()
    rebuilt = tokenization_auto.MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS
    assert set(tokenizer_loading.REBUILT_BY_MODEL_TYPE) == rebuilt


def test_the_largest_tensor_must_fit_into_the_bucket_of_a_weight_update(compose, tmp_path):
    smollm2 = {
        "model_type": "llama",
        **{"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3},
        **{"intermediate_size": 1536, "vocab_size": 49152, "max_position_embeddings": 8192},
        "tie_word_embeddings": True,
    }
    (tmp_path / "config.json").write_text(json.dumps(smollm2))
    model, bucket = f"{keys.MODEL_PATH}={tmp_path}", keys.UPDATE_WEIGHTS_BUCKET_MEGABYTES
    assert weight_bucket.check(compose(RECIPE, model)) == []
    assert weight_bucket.check(compose(RECIPE, model, f"{bucket}=64", f"{keys.DEVICE}=cuda")) == []
    [problem] = weight_bucket.check(compose(RECIPE, model, f"{bucket}=64"))
    assert problem.startswith(f"{bucket} is 64: the largest tensor of {tmp_path} has 108 MiB")
    assert problem.endswith(f"set {bucket}=108")


def test_the_language_model_that_was_not_prepared(compose):
    [found] = model_files.check(compose(RECIPE, f"{keys.MODEL_PATH}=data/smollm2_arithmetic/model"))
    assert "run `reinforcepp prepare smollm2 --warm-start arithmetic`" in str(found)


@pytest.mark.parametrize("loss", loss_settings.DUAL_CLIP_LOSSES)
def test_these_losses_compute_with_the_dual_clip(compose, loss):
    config = omega_conf_to_dataclass(compose(RECIPE, f"{LOSS}={loss}").actor_rollout_ref.actor)
    ones = torch.ones(1, 1)
    with pytest.raises((TypeError, RuntimeError)):
        core_algos.get_policy_loss_fn(loss)(ones, ones, ones, ones, "token-mean", config)


def test_verls_bypass_loss_gets_the_thresholds(compose):
    chosen = f"{CORRECTION}.loss_type=reinforce {CORRECTION}.rollout_is=token {CORRECTION}.rollout_is_threshold=1.5"
    config = omega_conf_to_dataclass(compose(RECIPE, *f"{BYPASS} {chosen}".split()).actor_rollout_ref.actor)
    valid, advantages = torch.ones(1, 2, dtype=torch.bool), torch.ones(1, 2)
    log_prob, rollout = torch.tensor([[-1.0, -1.0]]), torch.tensor([[-1.0, -3.0]])
    loss, metrics = core_algos.get_policy_loss_fn("bypass_mode")(
        rollout, log_prob, advantages, valid, "token-mean", config
    )
    # The weights are 1 and e^2, which is cut to the threshold.
    assert loss.item() == pytest.approx((1.0 + 1.5) / 2)
    assert metrics["rollout_corr/rollout_is_max"] > 1


# --- the reward function


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import no_such_thing\n", "fails in line 1 with ModuleNotFoundError: No module named 'no_such_thing'"),
        ("\n\nCACHE = open('/no/such/file')\n", "fails in line 3 with FileNotFoundError"),
        (
            "try:\n    import a_b_c\nexcept ImportError as error:\n    raise RuntimeError('x') from error\n",
            "fails in line 4 with ModuleNotFoundError: No module named 'a_b_c'",
        ),
        ("import sys\nsys.exit(3)\n", "fails in line 2 with SystemExit: 3"),
        ("import os\nos._exit(3)\n", "with the end of its process (exit code 3)"),
        ("import neighbour\n", "fails in line 1 with ModuleNotFoundError: No module named 'other_thing'"),
    ],
)
def test_an_import_that_fails_is_one_line_with_the_root_cause(compose, tmp_path, source, says):
    (tmp_path / "neighbour.py").write_text("import other_thing\n")
    file = tmp_path / "score.py"
    file.write_text(f"{source}\n\ndef compute_score(**row):\n    return 1.0\n")
    [problem] = examine(compose(RECIPE, f"{REWARD}.path={file}")).errors
    assert problem.startswith(f"{REWARD}.path is {file}: its import ") and says in problem and "\n" not in problem
    assert "correct the file, or install what it needs" in problem


@pytest.mark.parametrize("wanted", [False, True])
def test_the_arguments_of_a_reward_model(compose, tmp_path, wanted):
    settings = ("enable=true", "enable_resource_pool=true", "nnodes=1", "n_gpus_per_node=1")
    enabled = [f"reward.reward_model.{setting}" for setting in settings]
    given = ", reward_router_address, reward_model_tokenizer" if wanted else ""
    (tmp_path / "score.py").write_text(
        f"def compute_score(data_source, solution_str, ground_truth, extra_info{given}):\n    return 1.0\n"
    )
    found = reward_import.check(compose(RECIPE, *enabled, f"{REWARD}.path={tmp_path / 'score.py'}"))
    assert found == [] if wanted else "unexpected keyword argument 'reward_router_address'" in found[0]


@pytest.mark.parametrize("source", ["print('x' * 10_000)\nimport helper\n", "import sys\nsys.stdout = None\n"])
def test_an_import_that_works(compose, tmp_path, source):
    (tmp_path / "helper.py").write_text("")
    (tmp_path / "score.py").write_text(f"{source}\n\nasync def compute_score(**row):\n    return 1.0\n")
    assert reward_import.check(compose(RECIPE, f"{REWARD}.path={tmp_path / 'score.py'}")) == []
    assert not (tmp_path / "__pycache__").exists()


def test_verl_finds_the_neighbours_of_a_reward_file(tmp_path):
    import reinforcepp_verl.plugin  # noqa: F401

    (tmp_path / "my_neighbour.py").write_text("VALUE = 7\n")
    (tmp_path / "score.py").write_text("from my_neighbour import VALUE\n")
    assert load_extern_object(str(tmp_path / "score.py"), "VALUE") == 7


def test_a_wrong_name_lists_functions_only(compose, tmp_path):
    file = tmp_path / "score.py"
    file.write_text("from os import path\nLIMIT = 3\nclass Grader: pass\ndef _part(): ...\ndef compute_scores(): ...\n")
    [problem] = examine(compose(RECIPE, f"{REWARD}.path={file}")).errors
    assert problem.endswith(f"define it, or set {REWARD}.name to one of compute_scores")
    [problem] = examine(compose(RECIPE, f"{REWARD}.path={file}", f"{REWARD}.name=LIMIT")).errors
    assert problem.startswith(f"{REWARD}.name is LIMIT, which is not a function in {file}")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("return 1.0", {"score", "acc"}),
        ("return float(x)", {"score", "acc"}),
        ("return x == 2", {"score", "acc"}),
        ("return {'score': 1, 'right': x}", {"score", "right"}),
        ("return {'score': 1} if x else 0.0", {"score", "acc"}),
        ("if x:\n        return 0.0\n    return {'score': 1, 'b': 2}", {"score", "acc", "b"}),
        ("row = {'score': 1}\n    row['c'] = 2\n    return row", {"score", "c"}),
        ("row = {'score': 1}\n    row.update(x)\n    return row", None),
        ("return {'score': 1, **x}", None),
        ("return other(x)", None),
        ("pass", None),
    ],
)
def test_the_keys_that_a_function_returns(tmp_path, body, expected):
    file = tmp_path / "score.py"
    file.write_text(f"def compute_score(x):\n    {body}\n")
    assert returned_keys(file, "compute_score") == expected


def test_a_metric_that_the_reward_file_does_not_return(compose, tmp_path):
    file = tmp_path / "score.py"
    file.write_text("def compute_score(**row):\n    return {'score': 1.0, 'right': 1.0}\n")
    filtered = ["algorithm.filter_groups.enable=true", f"{REWARD}.path={file}"]
    [problem] = examine(compose(RECIPE, *filtered, "algorithm.filter_groups.metric=acc")).errors
    assert problem.startswith("algorithm.filter_groups.metric is acc: the reward function does not return it")
    assert problem.endswith("to one of reward, right, score")
    assert examine(compose(RECIPE, *filtered, "algorithm.filter_groups.metric=right")).errors == []


# --- the model


def _model(arithmetic, folder, **changes):
    shutil.copytree(arithmetic / "data" / "arithmetic" / "model", folder)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | changes))
    return folder


def test_a_head_size_that_vllm_lacks_on_the_cpu(compose, arithmetic, tmp_path):
    model = _model(arithmetic, tmp_path / "model", head_dim=48)
    [problem] = examine(compose(RECIPE, f"{keys.MODEL_PATH}={model}")).errors
    assert problem.startswith(f"{keys.MODEL_PATH}: the attention heads of {model} have size 48")
    assert "32, 64, 80" in problem


def test_a_tokenizer_that_transformers_rebuilds(compose, arithmetic, tmp_path):
    model = _model(arithmetic, tmp_path / "model", model_type="qwen2")
    assert not tokenizer_loading.loads_as_saved(model)
    [problem] = tokenizer_loading.check(compose(RECIPE, f"{keys.MODEL_PATH}={model}"))
    assert "transformers does not load the tokenizer in" in problem and "rebuilds a Qwen2Tokenizer" in problem
    assert "use a model whose model_type is not qwen2" in problem and "\n" not in problem


def test_a_class_that_rebuilds_the_tokenizer(compose, arithmetic, tmp_path):
    model = _model(arithmetic, tmp_path / "model")
    settings = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps(settings | {"tokenizer_class": "Qwen2Tokenizer"}))
    [problem] = tokenizer_loading.check(compose(RECIPE, f"{keys.MODEL_PATH}={model}"))
    assert "set tokenizer_class to PreTrainedTokenizerFast in its tokenizer_config.json" in problem


@pytest.mark.parametrize("content", ["{", "[]", '{"version": "1.0"}'])
def test_a_damaged_tokenizer(compose, arithmetic, tmp_path, content):
    model = _model(arithmetic, tmp_path / "model", model_type="qwen2")
    (model / "tokenizer.json").write_text(content)
    [problem] = tokenizer_loading.check(compose(RECIPE, f"{keys.MODEL_PATH}={model}"))
    assert problem.startswith(f"{keys.MODEL_PATH}: the tokenizer in {model} cannot be loaded")


def test_qwens_own_tokenizer_needs_no_import(tmp_path, arithmetic):
    model = _model(arithmetic, tmp_path / "model", model_type="qwen2")
    Qwen2Tokenizer().save_pretrained(model)
    assert tokenizer_loading.loads_as_saved(model)


def test_a_plain_tokenizer_needs_no_import(tmp_path):
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer, plain.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=plain).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert tokenizer_loading.loads_as_saved(tmp_path)
