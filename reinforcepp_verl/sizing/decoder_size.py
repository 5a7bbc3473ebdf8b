"""The size of a Llama, Qwen2 or Qwen3, computed from its config.json.

Building the model to count its parameters would import transformers, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FAMILIES = ("llama", "qwen2", "qwen3")
COUNTS = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size"),
    *("vocab_size", "max_position_embeddings"),
)
SWITCHES = ("tie_word_embeddings", "attention_bias", "mlp_bias")
"""False if missing."""


@dataclass(frozen=True)
class ModelSize:
    """Dimensions of a decoder; parameters are counts, not bytes."""

    parameters: int
    layer_parameters: int
    lora_parameters_per_rank: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    max_positions: int

    @property
    def outer_parameters(self) -> int:
        """Parameters outside the layers: the embeddings and the head, which FSDP gathers as one."""
        return self.parameters - self.layers * self.layer_parameters


def decoder_size(settings: Mapping[str, Any]) -> ModelSize | None:
    """Return the size of the model that a config.json describes; None if only transformers can tell.

    That is the case for other families, values of a wrong type, missing values and scaled positions.
    """
    if not _is_plain(settings):
        return None
    hidden, layers, heads, kv_heads, intermediate, vocab, positions = (settings[name] for name in COUNTS)
    head_dim = settings.get("head_dim") or hidden // heads
    linears = _linears(settings["model_type"], settings, head_dim)
    weights = sum(inputs * outputs + bias * outputs for inputs, outputs, bias in linears)
    norms = 2 * hidden + (2 * head_dim if settings["model_type"] == "qwen3" else 0)
    layer = weights + norms
    embeddings = vocab * hidden * (1 if settings.get("tie_word_embeddings") else 2)
    return ModelSize(
        parameters=embeddings + layers * layer + hidden,
        layer_parameters=layer,
        lora_parameters_per_rank=layers * sum(inputs + outputs for inputs, outputs, _ in linears),
        **{"hidden": hidden, "layers": layers, "heads": heads, "kv_heads": kv_heads, "head_dim": head_dim},
        **{"intermediate": intermediate, "vocab": vocab, "max_positions": positions},
    )


def _is_plain(settings: Mapping[str, Any]) -> bool:
    family, rope, head_dim = (settings.get(name) for name in ("model_type", "rope_parameters", "head_dim"))
    if family not in FAMILIES or "quantization_config" in settings or settings.get("rope_scaling"):
        return False
    if rope is not None and not (isinstance(rope, Mapping) and rope.get("rope_type", "default") == "default"):
        return False
    if head_dim is None and family == "qwen3":  # whose default is not hidden_size / num_attention_heads
        return False
    counts = [*(settings.get(name) for name in COUNTS), 1 if head_dim is None else head_dim]
    if not all(type(count) is int and count >= 1 for count in counts):
        return False
    if not all(isinstance(settings.get(name, False), bool) for name in SWITCHES):
        return False
    hidden, heads, kv_heads = (settings[name] for name in ("hidden_size", "num_attention_heads", "num_key_value_heads"))
    return bool(hidden % heads == 0 and heads % kv_heads == 0)


def _linears(family: str, settings: Mapping[str, Any], head_dim: int) -> list[tuple[int, int, bool]]:
    """List the linear layers of a decoder layer: inputs, outputs, whether there is a bias."""
    hidden, intermediate = settings["hidden_size"], settings["intermediate_size"]
    queries, values = (settings[f"num_{name}_heads"] * head_dim for name in ("attention", "key_value"))
    bias = family != "qwen2" and settings.get("attention_bias", False)
    mlp_bias = family == "llama" and settings.get("mlp_bias", False)
    qkv_bias = bias or family == "qwen2"
    return [
        *((hidden, outputs, qkv_bias) for outputs in (queries, values, values)),
        (queries, hidden, bias),
        *((hidden, intermediate, mlp_bias) for _ in range(2)),
        (intermediate, hidden, mlp_bias),
    ]
