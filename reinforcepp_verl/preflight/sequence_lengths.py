"""Sequence lengths and parallel sizes that do not fit the model: its positions, attention heads and chat template."""

from __future__ import annotations

import json
from pathlib import Path

from omegaconf import DictConfig

from reinforcepp_verl.common.wording import first_line
from reinforcepp_verl.config import keys
from reinforcepp_verl.config.reading import is_count, value
from reinforcepp_verl.sizing.layout import ParallelLayout, max_sequence_length
from reinforcepp_verl.sizing.model_size import ModelSize, model_folder, model_size

LENGTHS = f"{keys.MAX_PROMPT_LENGTH} + {keys.MAX_RESPONSE_LENGTH}"
TOKENIZER_CONFIG = "tokenizer_config.json"
CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""The sizes for which vLLM's CPU backend is compiled."""


def check(config: DictConfig) -> list[str]:
    """Check the engine's length, the tokenizer's chat template, then the model's config.json."""
    found = [*_engine_length(config), *_chat_template(config)]
    try:
        model = model_size(value(config, keys.MODEL_PATH))
    except ValueError as error:
        return [*found, f"{keys.MODEL_PATH}: {error}; set it to a model that transformers can load"]
    return (
        found
        if model is None
        else [*found, *_positions(config, model), *_heads(config, model), *_head_size(config, model)]
    )


def _engine_length(config: DictConfig) -> list[str]:
    given, batched = value(config, keys.MAX_MODEL_LEN), value(config, keys.MAX_NUM_BATCHED_TOKENS)
    if given is None:
        return []
    if not is_count(given) or given < max_sequence_length(config):
        return [
            f"{keys.MAX_MODEL_LEN} is {given}: {LENGTHS} is {max_sequence_length(config)}; set "
            f"{keys.MAX_MODEL_LEN}={max_sequence_length(config)} or more"
        ]
    if value(config, keys.ENABLE_CHUNKED_PREFILL) or batched >= given:
        return []
    return [
        f"{keys.MAX_NUM_BATCHED_TOKENS} is {batched}: without chunked prefill it must hold {keys.MAX_MODEL_LEN} "
        f"({given}); set {keys.MAX_NUM_BATCHED_TOKENS}={given}"
    ]


def _positions(config: DictConfig, model: ModelSize) -> list[str]:
    name, most = value(config, keys.MODEL_PATH), model.max_positions
    length = max_sequence_length(config)
    if length > most:
        return [
            f"{keys.MAX_RESPONSE_LENGTH} is {value(config, keys.MAX_RESPONSE_LENGTH)}: {LENGTHS} is {length}, "
            f"and {name} has {most} positions; set {keys.MAX_RESPONSE_LENGTH} to "
            f"{max(1, most - value(config, keys.MAX_PROMPT_LENGTH))} or less"
        ]
    given = value(config, keys.MAX_MODEL_LEN)
    if given is not None and given > most:
        return [f"{keys.MAX_MODEL_LEN} is {given}: {name} has {most} positions; set {keys.MAX_MODEL_LEN}={length}"]
    return []


def _heads(config: DictConfig, model: ModelSize) -> list[str]:
    layout, name = ParallelLayout.from_config(config), value(config, keys.MODEL_PATH)
    sizes = {
        keys.TENSOR_MODEL_PARALLEL_SIZE: layout.tensor_parallel,
        keys.ULYSSES_SEQUENCE_PARALLEL_SIZE: layout.sequence_parallel,
    }
    return [
        f"{key} is {size}: it must divide the {model.heads} attention heads of {name}; set {key} to one of "
        f"{', '.join(str(part) for part in range(1, size) if model.heads % part == 0 and layout.gpus % part == 0)}"
        for key, size in sizes.items()
        if model.heads % size
    ]


def _head_size(config: DictConfig, model: ModelSize) -> list[str]:
    if value(config, keys.DEVICE) != "cpu" or model.head_dim in CPU_HEAD_SIZES:
        return []
    return [
        f"{keys.MODEL_PATH}: the attention heads of {value(config, keys.MODEL_PATH)} have size {model.head_dim}, for "
        f"which vLLM has no attention on a CPU; use a model with heads of size "
        f"{', '.join(map(str, CPU_HEAD_SIZES))} (hidden_size / num_attention_heads), or a GPU"
    ]


def _chat_template(config: DictConfig) -> list[str]:
    """verl renders every prompt with the tokenizer's chat template, and fails at the first one if there is none."""
    key = keys.TOKENIZER_PATH if value(config, keys.TOKENIZER_PATH) else keys.MODEL_PATH
    folder = model_folder(value(config, key))
    if folder is None or value(config, keys.CUSTOM_CHAT_TEMPLATE):
        return []
    try:
        if _has_template(folder, downloaded=not Path(value(config, key)).expanduser().is_dir()):
            return []
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        return [
            f"{key}: {folder / TOKENIZER_CONFIG} is not a readable JSON object ({first_line(error)}); save the "
            "tokenizer again"
        ]
    return [
        f"{key}: the tokenizer of {value(config, key)} has no chat template, which verl needs to render prompts; set "
        f"{keys.CUSTOM_CHAT_TEMPLATE} to one, or use an instruction-tuned model"
    ]


def _has_template(folder: Path, downloaded: bool) -> bool:
    if (folder / "chat_template.jinja").is_file() or (folder / "additional_chat_templates" / "default.jinja").is_file():
        return True
    settings = folder / TOKENIZER_CONFIG
    if not settings.is_file():
        # The download cache may hold only parts of a model, so a missing file proves nothing.
        return downloaded
    return bool(json.loads(settings.read_text(encoding="utf-8")).get("chat_template"))
