"""The engine that computes each prompt once gives what verl's engine gives: every output, every gradient."""

from __future__ import annotations

import importlib
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tensordict import TensorDict
from torch import distributed
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from reinforcepp_verl.common.hardware import cpu_platform_wanted
from reinforcepp_verl.integration.cpu.packing_engine import attends_plainly
from reinforcepp_verl.integration.cpu.prompt_packing import pack
from reinforcepp_verl.tasks.small_tokenizer import of_characters

pytestmark = pytest.mark.skipif(not cpu_platform_wanted(), reason="this machine has an accelerator")

TINY = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
DECODERS = {
    "llama": LlamaConfig(**TINY, tie_word_embeddings=True),
    "mistral": MistralConfig(**TINY, sliding_window=None),
    "qwen2": Qwen2Config(**TINY),
    "qwen3": Qwen3Config(**TINY, head_dim=8),
}
PROMPTS = [[5, 6, 7], [5, 6], [8, 9, 10, 11, 12]]
# Rows in no order, answers of any length, one without an answer, and equal answers to one prompt.
ROWS = [(0, [20, 21]), (2, [30]), (0, [22, 23, 24]), (1, [25]), (2, []), (0, [20, 21]), (1, [20, 21, 26])]


@pytest.fixture
def one_process() -> Iterator[None]:
    distributed.init_process_group("gloo", rank=0, world_size=1, store=distributed.HashStore())
    yield
    distributed.destroy_process_group()


def jagged(rows: list[list[int]]) -> torch.Tensor:
    return torch.nested.as_nested_tensor([torch.tensor(row, dtype=torch.long) for row in rows], layout=torch.jagged)


def batch(rows: list[tuple[int, list[int]]], temperature: float | torch.Tensor = 1.0, **settings: object) -> TensorDict:
    """Return a mini-batch as verl's workers pass it to an engine."""
    tensordict_utils = importlib.import_module("verl.utils.tensordict_utils")
    whole = [PROMPTS[prompt] + answer for prompt, answer in rows]
    tensors = {
        "input_ids": jagged(whole),
        "position_ids": jagged([list(range(len(row))) for row in whole]),
        "prompts": jagged([PROMPTS[prompt] for prompt, _ in rows]),
        "responses": jagged([answer for _, answer in rows]),
        "loss_mask": jagged([[1] * len(answer) for _, answer in rows]),
    }
    given = {
        "temperature": temperature,
        "use_remove_padding": False,
        "use_dynamic_bsz": False,
        "micro_batch_size_per_gpu": len(rows),
        "calculate_entropy": True,
        "return_model_output": True,
        **settings,
    }
    return tensordict_utils.get_tensordict(tensors, given)


def weighted_sum(model_output, data, dp_group=None):
    """A loss in which every answer's log-probability and entropy has a weight of its own."""
    slice_answers = importlib.import_module("verl.workers.utils.padding").no_padding_2_padding
    log_probs, entropy = (slice_answers(model_output[name], data) for name in ("log_probs", "entropy"))
    weights = torch.arange(1.0, 1 + log_probs.numel()).view_as(log_probs)
    return (log_probs * weights - entropy * weights.flip(0)).sum() / 100, {}


@pytest.fixture
def engines(one_process, tmp_path):
    """Return a function that builds ours and verl's with one model."""
    importlib.import_module("reinforcepp_verl.plugin")
    module = importlib.import_module("verl.workers.engine.fsdp.transformer_impl")
    config = importlib.import_module("verl.workers.config")
    ours = importlib.import_module("verl.workers.engine.base").EngineRegistry

    def build(decoder: PretrainedConfig, folder: Path = tmp_path):
        torch.manual_seed(3)
        AutoModelForCausalLM.from_config(decoder).save_pretrained(folder)
        of_characters(string.ascii_letters).save_pretrained(folder)
        fp32 = {"param_dtype": "fp32", "reduce_dtype": "fp32", "buffer_dtype": "fp32"}
        settings = {
            "model_config": config.HFModelConfig(
                path=str(folder),
                use_remove_padding=False,
                enable_gradient_checkpointing=False,
                override_config={"attn_implementation": "sdpa"},
            ),
            "engine_config": config.FSDPEngineConfig(
                strategy="fsdp2", model_dtype="fp32", dtype="float32", use_torch_compile=False, mixed_precision=fp32
            ),
            "optimizer_config": config.FSDPOptimizerConfig(lr=1e-3, total_training_steps=1),
            "checkpoint_config": importlib.import_module("verl.trainer.config").CheckpointConfig(),
        }
        built = (
            ours.new(model_type="language_model", backend="fsdp2", **settings),
            module.FSDPEngineWithLMHead(**settings),
        )
        for engine in built:
            engine.initialize()
        return built

    return build


def shapes_of_inputs(engine) -> list[torch.Size]:
    """Return a list to which every later pass of the model adds the shape of its input."""
    shapes: list[torch.Size] = []
    engine.module.register_forward_pre_hook(
        lambda _module, _arguments, given: shapes.append(given["input_ids"].shape), with_kwargs=True
    )
    return shapes


def outputs_and_gradients(engine, data: TensorDict):
    with engine.train_mode():
        engine.optimizer_zero_grad()
        output = engine.forward_backward_batch(data, weighted_sum)
        gradients = {name: p.grad.full_tensor().clone() for name, p in engine.module.named_parameters()}
    slice_answers = importlib.import_module("verl.workers.utils.padding").no_padding_2_padding
    found = {name: slice_answers(output["model_output"][name], data) for name in ("log_probs", "entropy")}
    return found, gradients


@pytest.mark.parametrize("family", DECODERS)
@pytest.mark.parametrize("temperature", [1.0, torch.linspace(0.5, 1.5, len(ROWS))], ids=["one", "own"])
def test_answers_and_gradients_are_those_of_verls_engine(engines, family, temperature):
    packing, verls = engines(DECODERS[family])
    shapes = shapes_of_inputs(packing)
    ours, our_gradients = outputs_and_gradients(packing, batch(ROWS, temperature))
    expected, gradients = outputs_and_gradients(verls, batch(ROWS, temperature))
    assert shapes == [(3, 10)]
    for name in expected:
        torch.testing.assert_close(ours[name], expected[name], rtol=1e-4, atol=1e-5)
    assert our_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(our_gradients[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize(
    ("rows", "settings"),
    [
        # One packed row of 3 + 40 tokens and another of 2 + 1 take more room than 5 separate ones.
        ([(0, [20] * 10)] * 4 + [(1, [21])], {}),
        (ROWS, {"calculate_sum_pi_squared": True}),
    ],
    ids=["uneven groups", "more outputs"],
)
def test_other_micro_batches_are_computed_by_verls_engine(engines, rows, settings):
    packing, verls = engines(DECODERS["qwen2"])
    shapes = shapes_of_inputs(packing)
    ours, our_gradients = outputs_and_gradients(packing, batch(rows, **settings))
    expected, gradients = outputs_and_gradients(verls, batch(rows, **settings))
    assert [shape[0] for shape in shapes] == [len(rows)]
    assert all(torch.equal(ours[name], expected[name]) for name in expected)
    assert all(torch.equal(our_gradients[name], gradients[name]) for name in gradients)


def test_only_plain_attention_is_packed():
    def with_sdpa(model: PretrainedConfig) -> PretrainedConfig:
        model._attn_implementation = "sdpa"
        return model

    assert all(attends_plainly(with_sdpa(model)) for model in DECODERS.values())
    windowed = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}
    assert not attends_plainly(with_sdpa(Qwen2Config(**TINY, **windowed)))
    assert not attends_plainly(with_sdpa(MistralConfig(**TINY, sliding_window=4)))
    assert not attends_plainly(with_sdpa(GemmaConfig(**TINY)))
    assert not attends_plainly(LlamaConfig(**TINY, attn_implementation="eager"))


def test_long_answers_are_not_packed_for_the_sake_of_a_short_prompt():
    answer = 400
    values = torch.tensor(([1, 2] + [3] * answer) * 16)
    assert pack(values, [2 + answer] * 16, [2] * 16) is None
    assert pack(torch.tensor(([1, 2] * 100 + [3]) * 16), [201] * 16, [200] * 16) is not None


def test_without_an_answer_there_is_nothing_to_pack():
    assert pack(torch.tensor([1, 2, 1, 2]), [2, 2], [2, 2]) is None
