"""The sizes of a model, from its config.json alone: parameters are counted without allocating them."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reinforcepp_verl.common.wording import first_line
from reinforcepp_verl.sizing.decoder_size import ModelSize, decoder_size

_QWEN25_15B = {
    "model_type": "qwen2",
    **{"hidden_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2},
    **{"intermediate_size": 8960, "vocab_size": 151936, "max_position_embeddings": 131072},
}
_QWEN25_7B = {
    "model_type": "qwen2",
    **{"hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4},
    **{"intermediate_size": 18944, "vocab_size": 152064, "tie_word_embeddings": False},
}
_LLAMA3_8B = {
    "model_type": "llama",
    **{"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8},
    **{"intermediate_size": 14336, "vocab_size": 128256, "tie_word_embeddings": False},
    "max_position_embeddings": 8192,
}
KNOWN_MODELS: Mapping[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-0.5B-Instruct": {
        "model_type": "qwen2",
        **{"hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2},
        **{"intermediate_size": 4864, "vocab_size": 151936, "tie_word_embeddings": True},
        "max_position_embeddings": 32768,
    },
    "Qwen/Qwen2.5-1.5B": {**_QWEN25_15B, "tie_word_embeddings": True},
    "Qwen/Qwen2.5-7B": {**_QWEN25_7B, "max_position_embeddings": 131072},
    "Qwen/Qwen2.5-7B-Instruct": {**_QWEN25_7B, "max_position_embeddings": 32768},
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": {**_QWEN25_15B, "tie_word_embeddings": False},
    "Qwen/Qwen3-4B": {
        "model_type": "qwen3",
        **{"hidden_size": 2560, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8},
        **{"head_dim": 128, "intermediate_size": 9728, "vocab_size": 151936, "tie_word_embeddings": True},
        "max_position_embeddings": 40960,
    },
    "OpenRLHF/Llama-3-8b-sft-mixture": _LLAMA3_8B,
    "OpenRLHF/Llama-3-8b-rm-700k": _LLAMA3_8B,
}
"""config.json of the hub models in the recipes, so that a recipe can be sized before its model is downloaded."""


@functools.cache
def model_size(name: str) -> ModelSize | None:
    """Return the size of a model in a folder, in the Hugging Face cache or in `KNOWN_MODELS`.

    None if its config.json is not available, or does not describe a plain decoder. Raises ValueError for a config.json
    that transformers cannot read.
    """
    folder = model_folder(name)
    settings = KNOWN_MODELS.get(name) if folder is None else _read(folder)
    if settings is None or "auto_map" in settings:  # its class is custom code of the model
        return None
    return decoder_size(settings) or _measured(settings, folder)


def _read(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file}: {first_line(error)}") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{file}: it must hold a JSON object")
    return settings


def _measured(settings: Mapping[str, Any], folder: Path | None) -> ModelSize | None:
    config = _config(settings, folder)
    try:
        return measure(config)
    except (AttributeError, ValueError):  # a model with images, without attention, or with another layer structure
        return None


def measure(config: Any) -> ModelSize:
    """Build the model without allocating its parameters, and count them."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    layer = model.get_decoder().layers[0]
    linear = [module for module in layer.modules() if isinstance(module, torch.nn.Linear)]
    text = config.get_text_config()
    heads = text.num_attention_heads
    return ModelSize(
        parameters=sum(weight.numel() for weight in model.parameters()),
        layer_parameters=sum(weight.numel() for weight in layer.parameters()),
        lora_parameters_per_rank=text.num_hidden_layers * sum(m.in_features + m.out_features for m in linear),
        hidden=text.hidden_size,
        layers=text.num_hidden_layers,
        heads=heads,
        kv_heads=getattr(text, "num_key_value_heads", None) or heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // heads,
        intermediate=text.intermediate_size,
        vocab=text.vocab_size,
        max_positions=text.max_position_embeddings,
    )


def model_folder(name: str) -> Path | None:
    """Return the folder with the model's files on this machine, None for a hub model that is not downloaded."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(name, "config.json")
    except HFValidationError:  # a path, not a name on the hub
        return None
    return Path(cached).parent if isinstance(cached, str) else None


def _config(settings: Mapping[str, Any], folder: Path | None) -> Any:
    from transformers import AutoConfig

    if folder is None:
        return AutoConfig.for_model(**settings)
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'config.json'}: {first_line(error)}") from None
