"""The plan of a step and the memory of a GPU, against counts by hand and by other libraries."""

from __future__ import annotations

import functools

import pytest

from reinforcepp_verl.common.hardware import GIB
from reinforcepp_verl.config import machines
from reinforcepp_verl.preflight import gpu_memory
from reinforcepp_verl.sizing.memory_estimate import ENGINE_WORKSPACE_BYTES, OVERHEAD_BYTES, estimate
from reinforcepp_verl.sizing.model_size import KNOWN_MODELS, ModelSize, model_folder, model_size
from reinforcepp_verl.sizing.step_plan import StepPlan, normalized_over

# One layer of 100 parameters, 50 outside it; all other numbers are small enough for mental arithmetic.
TINY = ModelSize(
    parameters=250,
    layer_parameters=100,
    lora_parameters_per_rank=10,
    **{"hidden": 8, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 2, "intermediate": 16, "vocab": 32},
    max_positions=64,
)
PLAIN = (
    "actor_rollout_ref.actor.use_dynamic_bsz=true",
    "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=10",
    "data.max_prompt_length=4",
    "data.max_response_length=6",
    "trainer.n_gpus_per_node=2",
    "actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes=1",
)


@pytest.fixture
def compose(compose):
    """Compose for the GPUs of a named machine, whatever this one has."""
    return functools.partial(compose, "cluster=h100x8")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", 494_032_768),
        ("Qwen/Qwen2.5-1.5B", 1_543_714_304),
        ("Qwen/Qwen2.5-7B", 7_615_616_512),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", 1_777_088_000),
        ("Qwen/Qwen3-4B", 4_022_468_096),
        ("OpenRLHF/Llama-3-8b-sft-mixture", 8_030_261_248),
    ],
)
def test_parameters_are_those_of_the_model_cards(name, parameters):
    size = model_size(name)
    assert size is not None and size.parameters == parameters
    assert size.outer_parameters + size.layers * size.layer_parameters == parameters


def test_every_known_model_can_be_sized():
    for name in KNOWN_MODELS:
        size = model_size(name)
        assert size is not None and size.max_positions == KNOWN_MODELS[name]["max_position_embeddings"]


def test_adapters_have_as_many_parameters_as_peft_makes():
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    name, rank = "Qwen/Qwen2.5-0.5B-Instruct", 8
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**KNOWN_MODELS[name]))
        adapted = get_peft_model(model, LoraConfig(r=rank, target_modules="all-linear", task_type="CAUSAL_LM"))
    trainable, _ = adapted.get_nb_trainable_parameters()
    assert model_size(name).lora_parameters_per_rank * rank == trainable


def test_a_missing_model_has_no_size(tmp_path):
    assert model_size("nobody/nothing") is None
    assert model_folder(str(tmp_path / "missing" / "model")) is None
    (tmp_path / "config.json").write_text('{"model_type": "no such type"}')
    with pytest.raises(ValueError, match="config.json"):
        model_size(str(tmp_path))


@pytest.mark.parametrize(
    "config", ['{"model_type": "gpt2"}', '{"model_type": "mamba"}', '{"model_type": "qwen2_5_vl"}', '{"auto_map": {}}']
)
def test_a_model_that_is_not_a_plain_decoder_has_no_size(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    assert model_size(str(tmp_path)) is None


def test_state_is_sharded_and_an_update_includes_all_of_it(compose):
    update, rollout = estimate(compose(*PLAIN), TINY, 8.0).phases
    assert update.parts == {
        "weights": 250 * 4 // 2,
        "gradients": 250 * 4 // 2,
        "optimizer": 250 * 8 // 2,
        # bf16 weights of two layers and of the rest, fp32 gradients of one layer and the rest.
        "gathered weights": 2 * (50 + 2 * 100) + 4 * (50 + 100),
        # One layer's tensors for 10 tokens, and the inputs of both layers.
        "activations": 2 * 10 * (12 * 8 + 5 * 16) + 2 * 10 * 2 * 8,
        "logits": 6 * 10 * 32,
        "overhead": OVERHEAD_BYTES,
    }
    assert rollout.parts == {
        "training state": 250 * 12 // 2,
        "overhead": OVERHEAD_BYTES,
        "vLLM": 4 * GIB,
        "weight transfer": 2**20,
    }


def test_key_value_cache_is_the_memory_left_to_the_engine(compose):
    # 2 layers, keys and values, 2 heads of 2 numbers in bf16.
    per_token = 2 * 2 * 2 * 2 * 2
    found = estimate(compose(*PLAIN), TINY, 8.0)
    assert found.kv_tokens == (4 * GIB - 250 * 2 - ENGINE_WORKSPACE_BYTES) // per_token
    halved = estimate(compose(*PLAIN, "actor_rollout_ref.rollout.tensor_model_parallel_size=2"), TINY, 8.0)
    assert halved.kv_tokens == (4 * GIB - 250 - ENGINE_WORKSPACE_BYTES) // (per_token // 2)


def test_offloading_frees_the_rollout_and_streaming_both(compose):
    fsdp = "actor_rollout_ref.actor.fsdp_config"
    offloaded = estimate(compose(*PLAIN, f"{fsdp}.param_offload=true", f"{fsdp}.optimizer_offload=true"), TINY, 8.0)
    assert "training state" not in offloaded.phases[1].parts
    assert offloaded.phases[0].parts["weights"] == 500
    strategy = "actor_rollout_ref.actor.strategy"
    streamed = estimate(compose(*PLAIN, f"{fsdp}.offload_policy=true", f"{strategy}=fsdp2"), TINY, 8.0)
    assert not {"weights", "gradients", "optimizer"} & set(streamed.phases[0].parts)
    unread = estimate(compose(*PLAIN, f"{fsdp}.offload_policy=true", f"{strategy}=fsdp"), TINY, 8.0)
    assert unread.phases[0].parts["weights"] == 500


def test_memory_that_stays_on_the_gpu_counts(compose):
    fsdp, rollout = "actor_rollout_ref.actor.fsdp_config", "actor_rollout_ref.rollout"
    awake = estimate(compose(*PLAIN, f"{rollout}.free_cache_engine=false"), TINY, 8.0)
    assert awake.phases[0].parts["vLLM"] == 4 * GIB
    unsharded = estimate(compose(*PLAIN, f"{fsdp}.use_no_sync_for_gradient_accumulation=true"), TINY, 8.0)
    assert unsharded.phases[0].parts["gradients"] == 250 * 4
    kept = estimate(compose(*PLAIN, f"{fsdp}.reshard_after_forward=false"), TINY, 8.0)
    assert kept.phases[0].parts["gathered weights"] == 2 * 250 + 4 * (50 + 100)


def test_pipeline_stages_divide_the_layers_and_replicas_do_not(compose):
    rollout = "actor_rollout_ref.rollout"
    staged = estimate(compose(*PLAIN, f"{rollout}.pipeline_model_parallel_size=2"), TINY, 8.0)
    assert staged.kv_tokens == (4 * GIB - 250 - ENGINE_WORKSPACE_BYTES) // 16
    replicated = estimate(compose(*PLAIN, f"{rollout}.data_parallel_size=2"), TINY, 8.0)
    assert replicated.kv_tokens == (4 * GIB - 500 - ENGINE_WORKSPACE_BYTES) // 32


def test_only_adapters_are_trained(compose):
    update, _ = estimate(compose(*PLAIN, "actor_rollout_ref.model.lora_rank=4"), TINY, 8.0).phases
    assert update.parts["weights"] == (250 * 4 + 40 * 4) // 2
    assert (update.parts["gradients"], update.parts["optimizer"]) == (40 * 4 // 2, 40 * 8 // 2)


def test_fused_kernels_keep_no_logits_and_no_checkpointing_keeps_every_layer(compose):
    model = "actor_rollout_ref.model"
    overrides = (f"{model}.use_fused_kernels=true", f"{model}.enable_gradient_checkpointing=false")
    update, _ = estimate(compose(*PLAIN, *overrides), TINY, 8.0).phases
    assert "logits" not in update.parts
    assert update.parts["activations"] == 2 * 2 * 10 * (12 * 8 + 5 * 16)


def test_micro_batches_by_rows_hold_whole_sequences(compose):
    rows = [
        "actor_rollout_ref.actor.use_dynamic_bsz=false",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=3",
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=5",
        "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=2",
    ]
    update, _ = estimate(compose(*PLAIN, *rows), TINY, 8.0).phases
    assert update.parts["logits"] == 6 * (5 * 10) * 32
    assert update.parts["activations"] == 2 * (3 * 10) * (12 * 8 + 5 * 16) + 2 * (3 * 10) * 2 * 8


def test_the_advice_makes_it_fit(compose):
    config = compose("+recipe=math_rlvr/qwen25_7b_dapo", "cluster=h100")
    (warning,) = gpu_memory.check(config)
    change = warning.message.rpartition("; set ")[2].split()
    assert gpu_memory.check(compose("+recipe=math_rlvr/qwen25_7b_dapo", "cluster=h100", *change)) == []


def test_there_is_no_estimate_on_the_cpu_or_without_a_size(compose):
    assert gpu_memory.check(compose("+recipe=math_rlvr/qwen25_7b_dapo", "cluster=cpu")) == []
    unknown = "actor_rollout_ref.model.path=nobody/nothing"
    assert gpu_memory.check(compose("+recipe=math_rlvr/qwen25_7b_dapo", unknown)) == []


def test_plan_of_a_step_computed_by_hand(compose):
    config = compose("+recipe=math_rlvr/r1_distill_15b_prorl")
    plan = StepPlan.from_config(config)
    assert (plan.prompts, plan.answers, plan.generated_tokens) == (512, 512 * 16, 512 * 16 * 8192)
    assert (plan.updates, plan.answers_per_update, plan.longest_sequence) == (8, 1024, 9216)
    assert plan.forwards == {"log-probabilities": 1, "reference": 1, "updates": 1, "gradient checkpointing": 1}
    assert (plan.engines, plan.gpus_per_engine, plan.backwards) == (8, 1, 1)
    assert normalized_over(config) == 8192


def test_plan_of_bypass_and_of_separate_training(compose):
    bypass = StepPlan.from_config(compose("+recipe=math_rlvr/qwen25_7b_dapo_bypass"))
    assert "log-probabilities" not in bypass.forwards
    separate = compose("+recipe=math_rlvr/qwen25_7b_dapo_separate_async")
    assert StepPlan.from_config(separate).engines == 8
    assert machines.described(separate).startswith("8 GPUs")
    assert normalized_over(separate) == 32 * 8
